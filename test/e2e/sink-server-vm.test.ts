/**
 * The sink server as a machine of its own, which this one can't be: a VM of the template, with a Debian kernel, Open vSwitch on the
 * kernel's datapath, cgroup v2 with its controllers, and nft with queues; reached by ssh, its agent installed by `seamless sink install`.
 * The parked VM is one of QEMU, too: what ran on this processor might not run on an emulated one.
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exec } from '../../common/exec.ts';
import { takeDown } from '../../lab/down.ts';
import { namespacePath, planLab, planVms } from '../../lab/plan.ts';
import { orchestratorConfigPath } from '../../lab/services.ts';
import { SINK_SERVER_PACKAGES, SINK_SERVER_TEMPLATE } from '../../lab/sink-server.ts';
import { sshConfigPath } from '../../lab/ssh.ts';
import { bringUp } from '../../lab/up.ts';
import type { Config } from '../../orchestrator/config.ts';
import type { Finding } from '../../orchestrator/doctor/finding.ts';
import { buildTemplate } from '../../template/build.ts';
import { cacheDirectory } from '../../template/store.ts';
import { type Answer, awaitState, configure, kill, seamless, show, start } from './fixtures/admin.ts';
import { say } from './fixtures/shared-stage.ts';
import { Connection } from './gateways/connection.ts';

process.env['SEAMLESS_LAB'] ||= 'sinkvm';
const SOURCE = fileURLToPath(new URL('../..', import.meta.url));
const cache = cacheDirectory(process.env);
const lab = planLab(process.env['SEAMLESS_LAB'], cache);
const vms = planVms(lab, [`vm1:${process.env['SEAMLESS_TEST_TEMPLATE'] ?? 'default'}`], 512);
const UP_MS = 600_000;
/** Of one answer: both machines are emulated. */
const ANSWER_MS = 120_000;
let user: Connection;

beforeAll(async () => {
  const source = SOURCE;
  const include = SINK_SERVER_PACKAGES;
  await buildTemplate({ cache, source, name: SINK_SERVER_TEMPLATE, include, report: say });
  const signal = AbortSignal.timeout(UP_MS);
  await bringUp({ lab, vms, source, services: true, sinkServer: 'vm', report: say, signal });
  const config = JSON.parse(await readFile(orchestratorConfigPath(lab), 'utf8')) as Config;
  await kill('orchestrator');
  await configure({ vms: config.vms.map((vm) => ({ ...vm, healthChecks: ['10.77.0.2'] })) });
  await start('orchestrator');
  const shell = ['ssh', '-F', sshConfigPath(lab), '-tt', 'vm1', 'bash', '--norc'];
  user = new Connection(namespacePath(lab, 'client'), shell);
  user.send('kept=before; echo is-$kept\n');
  await user.expect(/is-before/, ANSWER_MS);
}, UP_MS);

afterAll(async () => {
  await user?.close();
  await takeDown(lab, say);
}, 120_000);

test('the doctor passes, and says what the sink server has', async () => {
  const { exitCode, json, stderr } = (await seamless('doctor')) as Answer & { json: { findings: Finding[] } };
  expect(json.findings.filter(({ status }) => status === 'missing')).toEqual([]);
  expect(exitCode, stderr).toBe(0);
  const found = (subject: string, check: string) =>
    json.findings.find((finding) => finding.subject === subject && finding.check === check)?.found;
  expect(found('host sink', 'reachable')).toMatch(/^ssh, Linux .*-cloud-amd64$/);
  expect(found('host sink', 'OVSDB')).toBe('/run/openvswitch/db.sock, kernel datapath');
  expect(found('host hv', 'OVSDB')).toMatch(/userspace datapath$/);
  expect(found('sink sink1', 'packet rules in sinks')).toBe('nft');
  expect(found('sink sink1', 'limits of sinks')).toBe('memory, pids');
}, 120_000);

test('a VM is parked there: its sink is limited by cgroup v2, and answers its users by the kernel’s switch and nft’s queue', async () => {
  const { exitCode, stderr } = await seamless('park', 'vm1');
  expect(exitCode, stderr).toBe(0);
  expect(await show('vm1')).toMatchObject({ state: 'parked', qemuStatus: 'paused' });
  await onClient('ping', '-c', '2', '-i', '0.2', '-W', '20', '10.77.0.11');
  await onClient('socat', '-u', '/dev/null', 'TCP:10.77.0.11:22,connect-timeout=60'); // a health check: connects, says nothing
  user.send('echo still-$kept\n'); // all in the shell itself
  await user.expect(/still-before/, ANSWER_MS);
  const looks = [
    'cd /sys/fs/cgroup/seamless-sinks/sink-vm1',
    'for name in memory.high memory.max pids.max; do echo "$name $(cat $name)"; done',
    'nsenter --net=/proc/$(head -n 1 helper/cgroup.procs)/ns/net nft list ruleset',
    'ovs-appctl dpctl/show --statistics system@ovs-system',
  ];
  const seen = await onSinkServer(looks.join(' && '));
  expect(seen).toContain(`memory.high ${2 ** 30}\nmemory.max max\npids.max 4096\n`);
  expect(seen).toContain('tcp flags & (rst | ack) == rst jump resets');
  expect(seen).toMatch(/tcp dport 61000 queue/);
  expect(seen).toMatch(/port \d+: vxlan_sys_4789/);
  const [, received] = /port \d+: sk-vm1\n +RX packets:(\d+)/.exec(seen) ?? [];
  expect(Number(received)).toBeGreaterThan(4);
  expect((await show('vm1')).state).toBe('parked');
}, 240_000);

test('the next command wakes the VM, and the session goes on', async () => {
  user.send('/bin/echo again-$kept\n');
  await user.expect(/again-before/, ANSWER_MS);
  await awaitState('vm1', 'awake', ANSWER_MS);
  expect((await show('vm1')).lastWake).toMatchObject({ cause: 'syscall' });
  expect(await onSinkServer('ls -d /sys/fs/cgroup/seamless-sinks/sink-* | wc -l')).toBe('0');
  user.send('/bin/echo same-$kept\n');
  await user.expect(/same-before/, ANSWER_MS);
}, 240_000);

/** A command on the sink server. */
async function onSinkServer(command: string): Promise<string> {
  const ssh = ['ssh', '-F', sshConfigPath(lab), 'sink-server.mgmt', '--', command] as const;
  const argv = ['nsenter', `--net=${namespacePath(lab, 'mgmt')}`, '--', ...ssh] as const;
  return (await exec(argv, { timeoutMs: ANSWER_MS })).stdout;
}

async function onClient(...argv: string[]): Promise<void> {
  await exec(['nsenter', `--net=${namespacePath(lab, 'client')}`, '--', ...argv], { timeoutMs: ANSWER_MS });
}
