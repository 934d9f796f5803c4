/**
 * Why a VM woke and whether that was needed, told by the service itself: real processes in a native VM (the point is not the
 * hypervisor), with real triggers, real counters of the switch and of the guest. The watch after a wake is cut to a few seconds.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exec } from '../../common/exec.ts';
import { takeDown } from '../../lab/down.ts';
import { namespacePath } from '../../lab/plan.ts';
import { sshConfigPath } from '../../lab/ssh.ts';
import { readState } from '../../lab/state.ts';
import { awaitState, configure, kill, seamless, show, start } from './fixtures/admin.ts';
import { planOwnLab, SOURCE, startVm1 } from './fixtures/native-lab.ts';
import { say } from './fixtures/shared-stage.ts';
import { Connection } from './gateways/connection.ts';
import { Guest } from './gateways/guest.ts';

const lab = planOwnLab('wakes');
const PORT = 7000;
const WATCH_MS = 4000;
const UNIT = `[Service]\nExecStart=/usr/bin/perl /srv/chores.pl ${PORT}\n`;
let client: Connection;

beforeAll(async () => {
  const guest = new Guest(lab, await startVm1(lab, 2048), 'vm1');
  const program = await readFile(join(SOURCE, 'test/e2e/fixtures/chores.pl'), 'utf8');
  await guest.write('/srv/chores.pl', program);
  await guest.write('/etc/systemd/system/chores.service', UNIT);
  await guest.start(['chores.service'], [`tcp/${PORT}`]);
  await configure({ wakeWatchMs: WATCH_MS });
  await kill('orchestrator');
  await start('orchestrator');
  client = atClient('socat', '-', `TCP:10.77.0.11:${PORT}`);
  await client.ask('hello\n', /hello/);
}, 400_000);

afterAll(async () => {
  await client?.close();
  await takeDown(lab, say);
}, 120_000);

test('a chore of an idle daemon wakes the VM, is named with its call, and is counted as a false wake of its rule', async () => {
  await park();
  await client.ask('chores 1\n', /chores/); // answered in the sink, from memory: nothing has to be faster than the park
  await awaitState('vm1', 'awake', 20_000);
  const { lastWake } = await judged();
  expect(lastWake).toMatchObject({
    cause: 'syscall',
    rule: 'file.name',
    call: expect.stringContaining('"/etc/hosts"'),
    trigger: { program: expect.stringMatching(/perl|chores/), syscall: 'newfstatat' },
    verdict: 'false',
  });
  expect((await show('vm1')).wakes).toMatchObject({
    used: 0,
    false: 1,
    falseByRule: [{ rule: 'file.name', count: 1 }],
  });
}, 60_000);

test('a request that needs a file names its client, says what was held, and was needed', async () => {
  await park();
  await client.ask('file /etc/hostname\n', /file vm1/);
  const { lastWake } = await judged();
  expect(lastWake).toMatchObject({
    cause: 'syscall',
    rule: 'file.open',
    client: expect.stringMatching(/^10\.77\.0\.2:\d+$/),
    seen: { unparkMs: expect.any(Number), heldPackets: expect.any(Number) },
    verdict: 'used',
    because: ['answered the client that woke it with 9 B'],
  });
  expect(lastWake?.line).toMatch(/^woken by \w+\[\d+\] for 10\.77\.0\.2:\d+: openat\(/);
}, 60_000);

test('a login was needed; its SYN waited, and the verdict survives the death of the orchestrator', async () => {
  await park();
  const command = ['ssh', '-F', sshConfigPath(lab), 'vm1', 'uptime'];
  await exec(['nsenter', `--net=${namespacePath(lab, 'client')}`, '--', ...command], { timeoutMs: 20_000 });
  await awaitState('vm1', 'awake', 20_000);
  await expect.poll(async () => (await events()).length, { timeout: 5000 }).toBeGreaterThan(0);
  await kill('orchestrator');
  await start('orchestrator');
  const { lastWake } = await judged();
  expect(lastWake).toMatchObject({
    cause: 'syn',
    client: expect.stringMatching(/^10\.77\.0\.2:\d+$/),
    trigger: { destination: '10.77.0.11', port: 22 },
    seen: { heldConnections: 1, firstHeldMs: expect.any(Number) },
  });
  expect(['used', 'unknown']).toContain(lastWake?.verdict);
  expect(lastWake?.seen.firstHeldMs).toBeLessThan(lastWake?.seen.unparkMs as number);
}, 60_000);

test('a hypervisor that ends while the VM is parked is noticed, and the sink goes on answering', async () => {
  await park();
  const qmp = readState(lab)?.processes.find(({ name }) => name === 'vm1-qmp');
  process.kill(qmp?.pid as number, 'SIGKILL');
  await expect.poll(async () => (await show('vm1')).hypervisorLost, { timeout: 10_000 }).not.toBeNull();
  expect((await show('vm1')).hypervisorLost?.next).toContain('the only copy');
  await client.ask('still here\n', /still here/);
  client.send('file /etc/hostname\n');
  const last = async () => (await events()).at(-1);
  await expect
    .poll(last, { timeout: 10_000 })
    .toMatchObject({ type: 'wake', detail: expect.stringMatching(/^wanted by/) });
  expect((await show('vm1')).state).toBe('parked');
}, 60_000);

function atClient(...argv: string[]): Connection {
  return new Connection(namespacePath(lab, 'client'), argv);
}

async function park(): Promise<void> {
  expect(await seamless('park', 'vm1')).toMatchObject({ exitCode: 0 });
}

/** The VM, once its last wake has been judged. */
async function judged() {
  await awaitState('vm1', 'awake', 20_000);
  const verdict = async () => (await show('vm1')).lastWake?.verdict;
  await expect.poll(verdict, { timeout: WATCH_MS + 15_000, interval: 250 }).not.toBe('pending');
  return show('vm1');
}

async function events(): Promise<{ type: string; event: string; detail: string | null }[]> {
  const { stdout } = await exec([join(SOURCE, 'scripts/seamless'), 'events', 'vm1', '--json']);
  return stdout.split('\n').map((line) => JSON.parse(line));
}
