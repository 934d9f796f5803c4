/**
 * Placeholders: sleeping processes that keep systemd calm while the gateway processes are away. One stands in the cgroup of each
 * unit, so that the unit is never empty; in a service it is the main process meanwhile; in a service with namespaces of its own it
 * keeps these. They outlive a restart of the agent.
 */
import { readdirSync } from 'node:fs';
import { SeamlessError } from '../../common/errors.ts';
import { exec } from '../../common/exec.ts';
import type { ProcessTree } from '../../criu/manifest.ts';
import type { AgentContext } from '../context.ts';
import { programOf } from '../processes.ts';
import { moveMainPids } from '../systemd/notify.ts';
import { startTime } from '../systemd/unit.ts';

export interface Placeholder {
  cgroup: string;
  unit: string;
  pid: number;
  startTime: number;
  /** The main process of the unit, 0 when it has none or it is not a gateway process. */
  mainPid: number;
}

export interface PlaceholderRequest {
  cgroup: string;
  unit: string;
  mainPid: number;
  /** Process whose namespaces the placeholder shall be in, and which. */
  within: { pid: number; namespaces: ProcessTree['namespaces'] };
}

export const CGROUP_ROOT = '/sys/fs/cgroup';
/** The name under which the kernel shows the compiled stand-ins.c. */
const PROGRAM = 'stand-ins';

/** Starts one placeholder per request, all or none. @param helper the compiled stand-ins.c */
export async function startPlaceholders(
  helper: string,
  requests: readonly PlaceholderRequest[],
): Promise<Placeholder[]> {
  const placeholders: Placeholder[] = [];
  const groups = Map.groupBy(requests, ({ within }) =>
    enterNamespaces(within.pid, within.namespaces).join(' '),
  );
  try {
    for (const group of groups.values()) {
      const pids = await startIn(helper, group);
      for (const [index, { cgroup, unit, mainPid }] of group.entries()) {
        const pid = pids[index] ?? -1;
        placeholders.push({ cgroup, unit, mainPid, pid, startTime: startTime(pid) });
      }
    }
    return placeholders;
  } catch (thrown) {
    endPlaceholders(placeholders);
    throw thrown;
  }
}

/** Ends those that still are what they were; safe to repeat. */
export function endPlaceholders(placeholders: readonly Placeholder[]): void {
  for (const { pid, startTime: started } of placeholders) {
    if (startTime(pid) === started) process.kill(pid, 'SIGKILL');
  }
}

/** Ends placeholders that nobody knows of: the agent was ended before it could note them. */
export function endStrays(known: readonly Placeholder[]): void {
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    const isStray =
      Number.isInteger(pid) && !known.some((one) => one.pid === pid) && programOf(pid) === PROGRAM;
    if (isStray) process.kill(pid, 'SIGKILL');
  }
}

/** Makes the placeholders the main processes of their units. @param notifyAs the compiled notify-as.c */
export async function takeOver(notifyAs: string, placeholders: readonly Placeholder[]): Promise<void> {
  await moveMainPids(
    notifyAs,
    withMain(placeholders).map(({ mainPid, pid }) => ({ from: mainPid, to: pid })),
  );
}

/**
 * Makes the real processes the main ones again and ends the placeholders; safe to repeat. A message that fails is only said
 * in the log: by now the processes live, and that is what counts.
 */
export async function stepDown(
  { helpers, log }: AgentContext,
  placeholders: readonly Placeholder[],
): Promise<void> {
  const moves = withMain(placeholders)
    .filter(
      ({ mainPid, pid, startTime: started }) => startTime(pid) === started && programOf(mainPid) !== null,
    )
    .map(({ mainPid, pid }) => ({ from: pid, to: mainPid }));
  await moveMainPids(helpers.notifyAs, moves).catch((error: unknown) =>
    log.warn('mainpid.failed', { error }),
  );
  endPlaceholders(placeholders);
}

/** The command that runs what follows in these namespaces of `pid`; empty when there are none. */
export function enterNamespaces(pid: number, namespaces: ProcessTree['namespaces']): string[] {
  if (namespaces.length === 0) return [];
  const flags = namespaces.map((kind) => (kind === 'mnt' ? '--mount' : '--uts'));
  return ['nsenter', '--target', String(pid), ...flags, '--'];
}

/** Where CRIU finds `folder` from these namespaces: a unit's own mounts may be read-only, the system's are not. */
export function folderFrom(namespaces: ProcessTree['namespaces'], folder: string): string {
  return namespaces.includes('mnt') ? `/proc/1/root${folder}` : folder;
}

function withMain(placeholders: readonly Placeholder[]): Placeholder[] {
  return placeholders.filter(({ mainPid }) => mainPid !== 0);
}

async function startIn(helper: string, group: readonly PlaceholderRequest[]): Promise<number[]> {
  const within = group[0]?.within;
  const namespaces = (within?.namespaces ?? []).flatMap((kind) => [
    '--ns',
    `/proc/${within?.pid}/ns/${kind}`,
  ]);
  const cgroups = group.map(({ cgroup }) => CGROUP_ROOT + cgroup);
  try {
    return pidsIn((await exec([helper, ...namespaces, ...cgroups])).stdout);
  } catch (cause) {
    const output = cause instanceof SeamlessError ? String(cause.details['output']) : '';
    for (const pid of pidsIn(output)) if (programOf(pid) === PROGRAM) process.kill(pid, 'SIGKILL');
    throw new SeamlessError(
      'CHECKPOINT_FAILED',
      `Placeholders could not be started: ${(cause as Error).message}`,
      {
        cause,
      },
    );
  }
}

function pidsIn(output: string): number[] {
  return output
    .split('\n')
    .filter((line) => /^\d+$/.test(line))
    .map(Number);
}
