/**
 * `seamless vm install` and `seamless sink install`, by ssh, on machines with systemd: the agents run, answer and park; and a newer one over one
 * whose sinks hold processes loses none of them and lets none run unfiltered.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ErrorBody } from '../../common/errors.ts';
import { exec } from '../../common/exec.ts';
import { takeDown } from '../../lab/down.ts';
import { namespacePath, planVms } from '../../lab/plan.ts';
import { orchestratorConfigPath } from '../../lab/services.ts';
import { clientKeyPath, hostKeyPath, sshConfigPath } from '../../lab/ssh.ts';
import type { Installed } from '../../orchestrator/install/install-agent.ts';
import type { SinkAgentApi } from '../../sink-agent/api.ts';
import { readTemplate } from '../../template/store.ts';
import type { VmAgentApi } from '../../vm-agent/api.ts';
import { onHost, seamless } from './fixtures/admin.ts';
import { planOwnLab, SOURCE, startVm1, TEMPLATE } from './fixtures/native-lab.ts';
import { say } from './fixtures/shared-stage.ts';
import { furnishSinkMachine, inMachine } from './fixtures/sink-machine.ts';
import { Connection } from './gateways/connection.ts';

const lab = planOwnLab('install');
const VERSIONS = '/usr/lib/seamless/agents/sink-agent';
const SINK_CGROUP = '/sys/fs/cgroup/seamless-sinks/sink-vm1/processes';
const AGENT_CALL = join(import.meta.dirname, 'vm-agent/fixtures/agent-call.ts');
const vm1 = { address: '10.78.0.11', port: 7443 };
const sink2 = { address: '10.78.0.12', port: 7444 };
const SOON = { timeout: 30_000, interval: 200 };
const INSTALL_MS = 120_000;
let user: Connection;

beforeAll(async () => {
  await startVm1(lab, 1024, { vms: planVms(lab, [`vm1:${TEMPLATE}`, `sink2:${TEMPLATE}`], 1024) });
  const ssh = ['ssh', '-F', sshConfigPath(lab), '-tt', 'vm1', 'bash', '--norc'];
  user = new Connection(namespacePath(lab, 'client'), ssh);
  await user.ask('kept=before; echo is-$kept\n', /is-before/);
}, 300_000);

afterAll(async () => {
  await user?.close();
  await takeDown(lab, say);
}, 120_000);

test('the agent of a VM is enrolled, runs and answers; a second time it is put over itself, and the VM is parked with it', async () => {
  const first = await install('vm', 'vm1', vm1);
  expect(first.former).toBeNull();
  expect(await install('vm', 'vm1', vm1)).toEqual({ ...first, former: first.version });
  expect(await seamless('park', 'vm1')).toMatchObject({ exitCode: 0 });
  expect(await seamless('unpark', 'vm1')).toMatchObject({ exitCode: 0 });
  await user.ask('echo still-$kept\n', /still-before/);
}, 300_000);

test('a machine that lacks what a sink server needs is told what, and nothing is put there', async () => {
  const refused = await runInstall('sink', 'sink2', sink2).catch((error: Error) => error.message);
  expect(refused).toMatch(/iptables; ethtool; libnetfilter-queue1/);
  expect(await inMachine(lab, 'sink2', `ls ${VERSIONS} 2>&1 || true`)).toContain('No such file');
}, 150_000);

test('upgrades of a sink agent: the processes in its sink stay, always filtered, and so do the programs that the sink was made with', async () => {
  await furnishSinkMachine(lab, 'sink2', TEMPLATE);
  const { version } = await install('sink', 'sink2', sink2);
  await pretend('0.0.1');
  await inMachine(lab, 'sink2', 'systemctl restart seamless-sink-agent');
  await expect
    .poll(
      () =>
        ofSink('describe', {}).then(
          () => 'answers',
          ({ message }: Error) => message,
        ),
      SOON,
    )
    .toBe('answers');
  await parkByHand();
  const processes = await tracers();
  expect(processes.size).toBeGreaterThan(0);

  expect(await install('sink', 'sink2', sink2)).toMatchObject({ version, former: '0.0.1' });
  await expectTakenOver(processes);
  await pretend('0.0.2');
  expect(await install('sink', 'sink2', sink2)).toMatchObject({ version, former: '0.0.2' });
  await expectTakenOver(processes);
  expect((await inMachine(lab, 'sink2', `ls ${VERSIONS}`)).split('\n')).toEqual([
    ...['0.0.1', '0.0.2', version, 'current'],
  ]);
  expect((await programs()).split('\n')).toHaveLength(4);

  await takeBack();
  await user.ask('echo home-$kept\n', /home-before/);
}, 500_000);

async function install(role: 'sink' | 'vm', name: string, agent: typeof vm1): Promise<Installed> {
  return JSON.parse(await runInstall(role, name, agent)) as Installed;
}

async function runInstall(role: 'sink' | 'vm', name: string, { address, port }: typeof vm1): Promise<string> {
  const hostKey = (await readFile(`${hostKeyPath(lab, name)}.pub`, 'utf8')).trim();
  const how = ['--host-key', hostKey, '--key', clientKeyPath(lab), '--config', orchestratorConfigPath(lab)];
  const cli = [process.execPath, join(SOURCE, 'orchestrator/cli/main.ts'), role, 'install', name];
  const place = [`ssh://root@${address}`, '--agent', `${address}:${port}`];
  const here = ['nsenter', `--net=${namespacePath(lab, 'mgmt')}`, '--'] as const;
  return (await exec([...here, ...cli, ...place, ...how, '--json'], { timeoutMs: INSTALL_MS })).stdout;
}

/** Makes what is installed another version, as if it had been there before: the same files under another name. */
async function pretend(older: string): Promise<void> {
  await inMachine(
    lab,
    'sink2',
    `cd ${VERSIONS}; cp -al "$(readlink current)" ${older}; ln -sfn ${older} current`,
  );
}

/** What the orchestrator orders, with a sink that needs no port: the VM's is down meanwhile. */
async function parkByHand(): Promise<void> {
  const vm = 'vm1';
  const { id: templateId } = await readTemplate(lab.cache, TEMPLATE);
  const { network } = await ofVm('describe', {});
  const vmAgent = { ...vm1, serverName: vm };
  await ofSink('prepare', { vm, templateId, network, vmAgent });
  await onHost('hv', 'ip', 'link', 'set', 'qvo-vm1', 'down');
  await ofVm('checkpoint', { imageId: 'there' });
  await ofSink('receive', { vm, imageId: 'there' });
  await ofSink('restore', { vm, imageId: 'there' });
  await ofSink('run', { vm });
}

/**
 * As when its sink is lost: the image of the park is still exact, since no packet has reached the sink. CRIU can't dump from where that lies, an
 * overlay of the sink over one of the machine; that the next agent can is tried in integration/sink-agent/failures.test.ts.
 */
async function takeBack(): Promise<void> {
  await ofSink('destroy', { vm: 'vm1', force: true });
  await ofVm('restore', { imageId: 'there' });
  await onHost('hv', 'ip', 'link', 'set', 'qvo-vm1', 'up');
}

/** Which of the programs that a sink is dumped by are to be seen in it. */
function programs(): Promise<string> {
  const init = `$(sed 's/.*"init":{"pid":\\([0-9]*\\).*/\\1/' /var/lib/seamless-sink/sinks/vm1.json)`;
  return inMachine(
    lab,
    'sink2',
    `cd /proc/${init}/root/run/seamless-sink; ls programs/drain-netlink.pl programs/return-packets.pl gate limits.so`,
  );
}

/** The processes of the sink, each with who traces it. */
async function tracers(): Promise<Map<string, string>> {
  const script = `for pid in $(cat ${SINK_CGROUP}/*/cgroup.procs); do echo $pid $(awk '/^TracerPid/ { print $2 }' /proc/$pid/status); done`;
  const lines = (await inMachine(lab, 'sink2', script)).split('\n');
  return new Map(lines.map((line) => line.split(' ') as [string, string]));
}

/** The same processes, under another filter, and running. */
async function expectTakenOver(before: ReadonlyMap<string, string>): Promise<void> {
  expect(await ofSink('status', { vm: 'vm1' })).toMatchObject({ state: 'running', trigger: null });
  const now = await tracers();
  expect([...now.keys()]).toEqual([...before.keys()]);
  expect([...now.values()]).not.toContain('0');
}

function ofVm<M extends keyof VmAgentApi & string>(method: M, params: VmAgentApi[M]['params']) {
  return call<VmAgentApi[M]['result']>(vm1, 'vm-agent:vm1', method, params);
}

function ofSink<M extends keyof SinkAgentApi & string>(method: M, params: SinkAgentApi[M]['params']) {
  return call<SinkAgentApi[M]['result']>(sink2, 'sink-agent:sink2', method, params);
}

async function call<Result>(at: typeof vm1, peer: string, method: string, params: object): Promise<Result> {
  const argv = [
    at.address,
    String(at.port),
    join(lab.runDirectory, 'pki'),
    peer,
    method,
    JSON.stringify(params),
  ];
  const answer = JSON.parse(await onHost('mgmt', process.execPath, AGENT_CALL, ...argv)) as {
    result: Result;
    error?: ErrorBody;
  };
  if (answer.error) throw new Error(`Expected ${peer} to ${method}, got ${JSON.stringify(answer.error)}`);
  return answer.result;
}
