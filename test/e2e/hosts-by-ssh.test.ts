/**
 * The lab's hosts reached by ssh: the whole path of park and wake, and what becomes of it when a host's connection does not
 * hold; at each step of a park and an unpark: host-faults.test.ts. The VM is native, because the point is not the hypervisor.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { takeDown } from '../../lab/down.ts';
import type { Config } from '../../orchestrator/config.ts';
import type { Finding } from '../../orchestrator/doctor/finding.ts';
import { type Answer, awaitState, configure, kill, onHost, seamless, show, start } from './fixtures/admin.ts';
import { cut, mend } from './fixtures/host-faults.ts';
import { planOwnLab, startVm1 } from './fixtures/native-lab.ts';
import { say } from './fixtures/shared-stage.ts';

const lab = planOwnLab('byssh');
/** As long as a client tries that has heard nothing: its retransmissions are folded into the one that is held. */
const PATIENCE_S = '60';

beforeAll(async () => {
  await startVm1(lab, 1024, { transport: 'ssh' });
}, 300_000);

afterEach(() => mend('hv'));

afterAll(() => takeDown(lab, say), 120_000);

test('a VM is parked and woken, and both hosts are reached over one connection each', async () => {
  const { hosts } = JSON.parse(await readFile(join(lab.runDirectory, 'seamless.json'), 'utf8')) as Config;
  expect(hosts.map(({ transport }) => transport.type)).toEqual(['ssh', 'ssh']);
  for (let cycle = 0; cycle < 2; cycle++) {
    await park();
    expect(await knock()).toBe('SSH-2.0');
    await awaitState('vm1', 'awake', 10_000);
  }
  for (const host of ['hv', 'sink'] as const) {
    const log = await readFile(join(lab.runDirectory, `sshd-${host}/log`), 'utf8');
    expect(log.match(/Accepted publickey/g)).toHaveLength(1);
  }
}, 60_000);

test.each([
  ['1 s', 1000],
  ['10 s', 10_000],
])(
  'cut for %s before a client knocks: it is answered when the host is back',
  async (_, ms) => {
    await park();
    await cut('hv');
    const knocking = knock();
    await delay(ms);
    await mend('hv');
    expect(await knocking).toBe('SSH-2.0');
    await awaitState('vm1', 'awake', 20_000);
  },
  90_000,
);

test('cut for ever: the VM stays parked and answered for, and says why it can’t be woken', async () => {
  await park();
  await cut('hv');
  const { exitCode, json } = await seamless('unpark', 'vm1');
  expect(exitCode).not.toBe(0);
  expect(['HOST_UNREACHABLE', 'TIMEOUT']).toContain(json.error?.code);
  expect(await show('vm1')).toMatchObject({
    state: 'unknown',
    recordedState: 'parked',
    hypervisorLost: null,
  });
  expect((await seamless('park', 'vm1')).json.error?.code).toBe('HOST_UNREACHABLE');
  await onHost('client', 'ping', '-c', '1', '-W', '5', '10.77.0.11');
  await mend('hv');
  await expect.poll(async () => (await seamless('unpark', 'vm1')).exitCode, { timeout: 30_000 }).toBe(0);
  expect(await show('vm1')).toMatchObject({ state: 'awake', hostLost: null });
}, 120_000);

test('cut while a VM is awake: it is unknown, a park is refused with the reason, and afterwards it is as it was', async () => {
  await awaitState('vm1', 'awake', 30_000);
  await cut('hv');
  await awaitState('vm1', 'unknown', 15_000);
  const { json, stderr } = await seamless('park', 'vm1');
  expect(json.error?.code).toBe('HOST_UNREACHABLE');
  expect(stderr).toMatch(/not parked while hv can’t be reached/);
  expect(await show('vm1')).toMatchObject({ recordedState: 'awake', lastPark: { status: 'succeeded' } });
  await mend('hv');
  await awaitState('vm1', 'awake', 15_000);
  await park();
  expect(await knock()).toBe('SSH-2.0');
}, 120_000);

test('the orchestrator killed and started while the host can’t be reached: who knocked meanwhile is answered', async () => {
  await park();
  await kill('orchestrator');
  await cut('hv');
  await start('orchestrator');
  const knocking = knock();
  await delay(2000);
  await mend('hv');
  expect(await knocking).toBe('SSH-2.0');
  await awaitState('vm1', 'awake', 20_000);
}, 90_000);

test('a host is added with its key confirmed, looked at, kept over a restart, and removed', async () => {
  const socketOf = (name: string) => join(lab.runDirectory, 'ovs-hv', name);
  const hostKey = (await readFile(join(lab.runDirectory, 'sshd-hv/host.pub'), 'utf8')).trim();
  const otherKey = (await readFile(join(lab.runDirectory, 'sshd-sink/host.pub'), 'utf8')).trim();
  const key = join(lab.runDirectory, 'sshd-hv/orchestrator');
  const add = ['host', 'add', 'hv2', 'ssh://root@10.78.0.3', '--openflow', socketOf('br-int.mgmt')];
  const paths = ['--ovsdb', socketOf('db.sock'), '--switch-control', socketOf('ovs-vswitchd.ctl')];
  const refused = async (...args: string[]) => (await seamless(...add, ...paths, ...args)).json.error;

  const unconfirmed = await refused('--key', key);
  expect(unconfirmed).toMatchObject({
    code: 'HOST_KEY_UNCONFIRMED',
    details: { hostKey: /^\S+ \S+/.exec(hostKey)?.[0] },
  });
  const wrong = await refused('--key', key, '--host-key', otherKey);
  expect(wrong?.message).toContain('expected the host key SHA256:');
  const stranger = await refused('--host-key', hostKey);
  expect(stranger?.message).toContain('Add this line there:\nssh-ed25519 ');

  expect(await seamless(...add, ...paths, '--key', key, '--host-key', hostKey)).toMatchObject({
    exitCode: 0,
  });
  expect(await refused('--key', key, '--host-key', hostKey)).toMatchObject({ code: 'CONFIG_INVALID' });
  await kill('orchestrator');
  await start('orchestrator');
  expect(await seamless('host', 'check', 'hv2')).toMatchObject({ exitCode: 0 });
  expect((await seamless('host', 'remove', 'hv')).json.error?.code).toBe('HOST_IN_USE');
  expect(await seamless('host', 'remove', 'hv2')).toMatchObject({ exitCode: 0 });
  expect((await seamless('host', 'check', 'hv2')).json.error?.code).toBe('HOST_UNKNOWN');
}, 60_000);

test('the doctor finds all in order, and names what is cut off', async () => {
  const doctor = async () => (await seamless('doctor')) as Answer & { json: { findings: Finding[] } };
  expect((await doctor()).json.findings.filter(({ status }) => status === 'missing')).toEqual([]);
  await kill('sink-agent');
  const { exitCode, json } = await doctor();
  await start('sink-agent');
  expect(exitCode).toBe(3);
  const missing = json.findings.filter(({ status }) => status === 'missing');
  expect(missing).toEqual([expect.objectContaining({ subject: 'sink sink1', check: 'sink-agent' })]);
}, 60_000);

test('a wrong host key: a park is refused and says which, and the VM is untouched', async () => {
  const config = JSON.parse(await readFile(join(lab.runDirectory, 'seamless.json'), 'utf8')) as Config;
  const [hv, sink] = config.hosts as [Config['hosts'][number], Config['hosts'][number]];
  const { hostKey } = sink.transport as { hostKey: string };
  await kill('orchestrator');
  await configure({ hosts: [{ ...hv, transport: { ...hv.transport, hostKey } }, sink] });
  await start('orchestrator');
  const { json } = await seamless('park', 'vm1');
  expect(json.error).toMatchObject({
    code: 'HOST_UNREACHABLE',
    message: expect.stringContaining('expected the host key SHA256:'),
  });
  expect(await knock()).toBe('SSH-2.0');
  await kill('orchestrator');
  await configure({ hosts: [hv, sink] });
  await start('orchestrator');
  await park();
  expect(await knock()).toBe('SSH-2.0');
}, 120_000);

async function park(): Promise<void> {
  await awaitState('vm1', 'awake', 30_000);
  expect(await seamless('park', 'vm1')).toMatchObject({ exitCode: 0 });
}

/** A new connection to the VM’s sshd; what that says first. */
function knock(): Promise<string> {
  const script = 'exec 3<>/dev/tcp/10.77.0.11/22 && head -c 7 <&3';
  return onHost('client', 'timeout', PATIENCE_S, 'bash', '-c', script);
}
