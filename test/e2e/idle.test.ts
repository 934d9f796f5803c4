/**
 * The service parks an idle VM by itself: not while somebody types, soon after; a connection wakes it; the grace keeps it awake; a changed
 * policy holds at once. On a native VM, with windows of seconds: the decisions are those of minutes, and the hypervisor is not the point.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exec } from '../../common/exec.ts';
import { takeDown } from '../../lab/down.ts';
import { namespacePath } from '../../lab/plan.ts';
import { sshConfigPath } from '../../lab/ssh.ts';
import type { Explanation } from '../../orchestrator/idle/explain.ts';
import { awaitState, configure, kill, seamless, show, start } from './fixtures/admin.ts';
import { planOwnLab, SOURCE, startVm1 } from './fixtures/native-lab.ts';
import { say } from './fixtures/shared-stage.ts';
import { Connection } from './gateways/connection.ts';

const lab = planOwnLab('idle');
const WINDOW_S = 5;
/** The host's CPUs are shared with whatever runs beside this: the guest's load does not count here, people do. */
const POLICY = `version: 1
defaults:
  park: always-allow
  window: ${WINDOW_S}s
  minGap: 0s
  lead: 0s
  timers: ignore
`;
const LINE = 'idle (policy.yaml:3, park)';
let folder: string;
let user: Connection;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'slf-policy-'));
  await writeFile(join(folder, 'policy.yaml'), POLICY);
  await startVm1(lab, 1024);
  user = ssh('-tt', 'vm1', 'cat');
  await user.ask('here\n', /here\r\n.*here/s);
  await configure({ policy: join(folder, 'policy.yaml'), sampleMs: 1000 });
  await kill('orchestrator');
  await start('orchestrator');
}, 400_000);

afterAll(async () => {
  await user?.close();
  await takeDown(lab, say);
  await rm(folder, { recursive: true });
}, 120_000);

test('who types keeps the VM awake; when nobody does it is parked, with its session', async () => {
  // Typed before its counters are there it would not count; until they are, nothing is known, and nobody is parked.
  await expect
    .poll(
      async () =>
        (await explain()).signals.every(
          ({ value, name }) => value !== null || name === 'timers' || name === 'lease',
        ),
      { timeout: 10_000 },
    )
    .toBe(true);
  const typedUntil = performance.now() + WINDOW_S * 1500;
  for (let line = 0; performance.now() < typedUntil; line++) {
    const text = `${line} ${'and so on '.repeat(30)}`.trim();
    await user.ask(`${text}\n`, new RegExp(`${text}\r\n.*${text}`, 's'));
    await expect.poll(isUsed, { timeout: 5000 }).toBe(true);
  }
  expect(await explain()).toMatchObject({ state: 'awake', verdict: 'keep' });
  await awaitState('vm1', 'parked', 30_000);
  expect((await show('vm1')).lastPark).toMatchObject({ cause: 'idle', rule: LINE });
  await user.ask('still there?\n', /still there\?/);
}, 60_000);

test('a connection wakes it, and the grace keeps it awake for twice the window', async () => {
  await awaitState('vm1', 'parked', 30_000);
  const uptime = await ssh('vm1', 'uptime').expect(/load average/);
  expect(uptime[0]).toBe('load average');
  const { state, lastWake } = await show('vm1');
  expect(state).toBe('awake');
  expect(lastWake?.cause).toMatch(/^(syn|syscall)$/);
  await awaitState('vm1', 'parked', 40_000);
  const parkedAt = (await show('vm1')).lastPark?.startedAt ?? '';
  expect(Date.parse(parkedAt) - Date.parse(lastWake?.at ?? '')).toBeGreaterThanOrEqual(WINDOW_S * 2000 - 100);
}, 90_000);

test('a policy with mistakes changes nothing and is told with its lines; a good one holds at once', async () => {
  await writeFile(join(folder, 'policy.yaml'), 'version: 1\ndefaults:\n  windov: 5s\n  park: maybe\n');
  await expect
    .poll(async () => (await explain()).policy.problem?.message, { timeout: 10_000 })
    .toMatch(/policy\.yaml:3: defaults\.windov: unknown key.*\n.*policy\.yaml:4: defaults\.park/);
  expect((await show('vm1')).state).toBe('parked');
  await writeFile(join(folder, 'policy.yaml'), `${POLICY}vms:\n  - match: { name: vm1 }\n    park: never\n`);
  await awaitState('vm1', 'awake', 20_000);
  expect((await show('vm1')).lastWake?.line).toBe(
    'woken because the policy says never to park it (never (policy.yaml:10, park))',
  );
  const { stdout } = await exec([join(SOURCE, 'scripts/seamless'), 'events']);
  expect(stdout).toContain('policy policy.yaml refused, the one before holds');
  expect(stdout).toContain('policy policy.yaml taken over');
  expect(stdout).toContain(`nobody uses it: ${LINE}`);
}, 60_000);

function ssh(...argv: string[]): Connection {
  const command = ['ssh', '-F', sshConfigPath(lab), ...argv];
  return new Connection(namespacePath(lab, 'client'), command);
}

async function explain(): Promise<Explanation> {
  return (await seamless('explain', 'vm1')).json as unknown as Explanation;
}

/** By what somebody leaves behind. */
async function isUsed(): Promise<boolean> {
  const { signals } = await explain();
  return signals.some(({ name, state }) => (name === 'network' || name === 'sessions') && state === 'busy');
}
