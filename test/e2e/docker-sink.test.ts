/**
 * The whole way with a sink in Docker, on a native VM: parked into a container, woken by a login; and the container removed by hand.
 * Every other end-to-end test runs on Docker too: SEAMLESS_SINK=docker scripts/test e2e
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exec } from '../../common/exec.ts';
import { dockerSocket } from '../../lab/docker.ts';
import { takeDown } from '../../lab/down.ts';
import { namespacePath, planDocker } from '../../lab/plan.ts';
import { sshConfigPath } from '../../lab/ssh.ts';
import { readState } from '../../lab/state.ts';
import { awaitState, seamless, show } from './fixtures/admin.ts';
import { planOwnLab, startVm1 } from './fixtures/native-lab.ts';
import { say } from './fixtures/shared-stage.ts';
import { Connection } from './gateways/connection.ts';

const lab = planOwnLab('docker');
const CONTAINER = 'seamless-sink1-vm1';
let user: Connection;

beforeAll(async () => {
  await startVm1(lab, 1024, { sink: 'docker' });
  user = new Connection(namespacePath(lab, 'client'), [
    'ssh',
    '-F',
    sshConfigPath(lab),
    '-tt',
    'vm1',
    'bash',
    '--norc',
  ]);
  await user.ask('kept=before; echo is-$kept\n', /is-before/);
}, 400_000);

afterAll(async () => {
  await user?.close();
  await takeDown(lab, say);
}, 120_000);

async function docker(...argv: string[]): Promise<string> {
  return (await exec(['docker', '--host', `unix://${dockerSocket(planDocker(lab))}`, ...argv])).stdout;
}

async function park(): Promise<void> {
  const { exitCode, stderr } = await seamless('park', 'vm1');
  expect(exitCode, stderr).toBe(0);
}

async function login(): Promise<string> {
  const ssh = ['ssh', '-F', sshConfigPath(lab), 'vm1', 'hostname'] as const;
  return (await exec(['nsenter', `--net=${namespacePath(lab, 'client')}`, '--', ...ssh])).stdout;
}

test('a VM parks into a container, and a login wakes it; nobody’s session notices', async () => {
  await park();
  expect(await docker('ps', '--format', '{{.Names}} {{.Label "seamless.vm"}}')).toBe(`${CONTAINER} vm1`);
  expect(await docker('logs', CONTAINER)).toMatch(/ prepared\n.* restored .*\n.* running /);
  expect(await login()).toBe('vm1');
  expect((await show('vm1')).lastWake?.cause).toBe('syn');
  await user.ask('echo still-$kept\n', /still-before/);
  expect(await docker('ps', '--all', '--quiet')).toBe('');
}, 60_000);

test('a park without Docker is refused, and the VM untouched', async () => {
  const daemon = readState(lab)?.processes.find(({ name }) => name === 'dockerd')?.pid ?? -1;
  process.kill(daemon, 'SIGSTOP'); // it listens, and answers nobody
  try {
    const { exitCode, json } = await seamless('park', 'vm1');
    expect([exitCode, json.error?.code]).toEqual([8, 'RUNTIME_UNREACHABLE']);
  } finally {
    process.kill(daemon, 'SIGCONT');
  }
  expect((await show('vm1')).state).toBe('awake');
  await user.ask('echo unheld-$kept\n', /unheld-before/);
}, 60_000);

test('a container that is removed by hand wakes the VM from the image of the park, and it is said so', async () => {
  await park();
  await docker('rm', '--force', CONTAINER);
  await awaitState('vm1', 'awake', 30_000);
  expect((await show('vm1')).lastWake?.line).toContain('its sink was lost');
  expect(await login()).toBe('vm1');
  await park(); // it can be parked again
  expect(await login()).toBe('vm1');
}, 60_000);
