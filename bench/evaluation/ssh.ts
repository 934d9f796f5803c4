/** What hosts by ssh cost on the way of a wake, against local ones in the same run: what is asked of the hosts alone, and whole wakes. */
import { join } from 'node:path';
import { exec } from '../../common/exec.ts';
import type { HostPartRow } from '../ssh-host-part.ts';
import { BARE_TEMPLATE } from './bed.ts';
import { startProgress } from './progress.ts';
import { round } from './statistics.ts';

type Both = Record<'local' | 'ssh', number>;

export interface SshRow {
  what: string;
  /** Rounds, or wakes by each transport. */
  runs: number;
  p50Ms: Both;
  /** The fastest tenth; of whole wakes the fastest quarter: what it is where nothing else runs. */
  fastMs: Both;
}

const LAB = 'benchssh';
const RUN_MS = 30 * 60_000;
/** More than that on the way of a wake is too much. */
export const SSH_GOAL_MS = 5;

export async function sshCost(quick: boolean): Promise<{ rows: SshRow[] }> {
  const progress = startProgress('ssh', 2);
  const part = await run<{ rounds: number; rows: HostPartRow[] }>('ssh-host-part', [
    '--rounds',
    quick ? '60' : '400',
  ]);
  progress.advance('what the hosts are asked');
  const wakes = await run<Wakes>(
    'ssh-transport',
    quick ? ['--blocks', '2', '--cycles', '3'] : ['--blocks', '8', '--cycles', '8'],
  );
  progress.advance('whole wakes');
  progress.end();
  const { local, ssh } = wakes;
  return {
    rows: [
      ...part.rows.map(({ step, p50, p10 }) => ({
        what: step === 'all' ? 'all that the hosts are asked' : step,
        runs: part.rounds,
        p50Ms: rounded(p50),
        fastMs: rounded(p10),
      })),
      {
        what: 'a whole wake, trigger to release',
        runs: ssh.wakes,
        p50Ms: rounded({ local: local.connectMs.p50, ssh: ssh.connectMs.p50 }),
        fastMs: rounded({ local: local.connectMs.p25, ssh: ssh.connectMs.p25 }),
      },
    ],
  };
}

type Wakes = Record<'local' | 'ssh', { wakes: number; connectMs: { p25: number; p50: number } }>;

/** Each is a program of its own, since the orchestrator's namespace is entered by a process. */
async function run<Answer>(name: string, options: readonly string[]): Promise<Answer> {
  const program = [
    process.execPath,
    join(import.meta.dirname, `../${name}.ts`),
    '--template',
    BARE_TEMPLATE,
    '--json',
  ] as const;
  const { stdout } = await exec([...program, ...options], { timeoutMs: RUN_MS, env: { SEAMLESS_LAB: LAB } });
  return JSON.parse(stdout) as Answer;
}

function rounded({ local, ssh }: Both): Both {
  return { local: round(local), ssh: round(ssh) };
}
