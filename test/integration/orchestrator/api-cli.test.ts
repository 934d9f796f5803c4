/**
 * The API and the CLI over a real socket, with real drivers, sagas and a real journal. Only what they act upon is the
 * model of test/unit/orchestrator/sagas/world.ts; the real thing is in the end-to-end tests.
 */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { SeamlessError } from '../../../common/errors.ts';
import { silentLog } from '../../../common/log.ts';
import { startApi } from '../../../orchestrator/api/server.ts';
import { type ApiClient, apiClient } from '../../../orchestrator/cli/client.ts';
import type { VmConfig } from '../../../orchestrator/config.ts';
import { Attention } from '../../../orchestrator/idle/attention.ts';
import { explainRoutes } from '../../../orchestrator/idle/route.ts';
import { type Journal, openJournal } from '../../../orchestrator/saga/journal.ts';
import type { VmDriver } from '../../../orchestrator/vm/driver.ts';
import type { HypervisorLoss } from '../../../orchestrator/vm/hypervisor-watch.ts';
import { synWake } from '../../../orchestrator/vm/wake.ts';
import { temporaryFolder } from '../../unit/orchestrator/saga/suite.ts';
import { World } from '../../unit/orchestrator/sagas/world.ts';
import { type Driven, drive, TRIGGER } from '../../unit/orchestrator/vm/driven.ts';

const CLI = join(import.meta.dirname, '../../../orchestrator/cli/main.ts');
let world: World;
let driver: VmDriver;
let journal: Journal;
let socket: string;
let client: ApiClient;
let loss: HypervisorLoss | null;
let unreachable: Driven['unreachable'];

beforeEach(async () => {
  world = new World();
  const folder = temporaryFolder();
  socket = join(folder, 'seamless.sock');
  journal = openJournal(join(folder, 'journal.sqlite'));
  ({ driver, unreachable } = drive(world, journal));
  loss = null;
  const config = {
    name: 'vm1',
    host: 'hv',
    sink: 'sink1',
    addresses: ['10.77.0.11/24'],
    mac: 'm',
    template: 't',
  };
  const vm = {
    config: config as unknown as VmConfig,
    driver,
    hypervisor: {
      get loss() {
        return loss;
      },
    },
    residentBytes: async () => 100 * 1024 * 1024,
    qemuStatus: async () => (world.power === 'on' ? 'running' : 'paused'),
    observe: async (seconds: number) => ({
      observations: [
        {
          ...{ program: 'java', pid: 7, syscall: 'newfstatat', rule: 'file.name', effect: 'stat' as const },
          ...{
            path: '/etc/tomcat10/server.xml',
            detail: 'newfstatat(AT_FDCWD, "/etc/tomcat10/server.xml", 0x1, 0)',
          },
          ...{ count: 6, firstMs: 1000, lastMs: 51_000 },
        },
      ],
      ...{ processes: 1, threads: 30, calls: 400, ms: seconds * 1000 },
    }),
    scan: async () => ({
      processes: [
        { pid: 412, parent: 1, program: 'sshd', unit: 'ssh.service', because: 'listens on tcp 0.0.0.0:22' },
      ],
      listeners: [],
      refusals: [],
      imageBytes: 0,
    }),
  };
  const attention = new Attention({ policy: null, journal, log: silentLog });
  const source = { guest: async () => null, network: async () => null, hypervisor: async () => null };
  attention.add({ name: 'vm1', host: 'hv', driver, source });
  const api = await startApi({
    socket,
    vms: new Map([['vm1', vm]]),
    journal,
    log: silentLog,
    plugins: [(app) => explainRoutes(app, attention)],
  });
  client = apiClient(socket);
  onTestFinished(async () => {
    driver.stop();
    await api.close();
    await driver.idle();
    journal.close();
  });
});

test('the socket is open to root and its group alone', () => {
  expect(statSync(socket).mode & 0o777).toBe(0o660);
});

test('list and show tell the state, QEMU’s status and its memory', async () => {
  expect((await cli('list')).stdout).toMatch(/vm1 +awake .* hv +sink1 +10\.77\.0\.11\/24/);
  const { stdout } = await cli('show', 'vm1', '--json', '--gateways');
  expect(JSON.parse(stdout)).toMatchObject({
    name: 'vm1',
    state: 'awake',
    residentBytes: 104857600,
    qemuStatus: 'running',
    gateways: { processes: [{ program: 'sshd' }] },
  });
  expect((await cli('show', 'vm1', '--gateways')).stdout).toContain('listens on tcp 0.0.0.0:22');
});

test('park waits, shows each step and ends with 0; a second one says that it is parked already', async () => {
  const parked = await cli('park', 'vm1');
  expect(parked).toMatchObject({
    exitCode: 0,
    stdout: expect.stringMatching(/^vm1: park succeeded in \d+ ms$/),
  });
  expect(parked.stderr.match(/✓ \w+/g)?.join(' ')).toBe(
    '✓ admit ✓ prepare ✓ plug ✓ probe ✓ hold ✓ checkpoint ✓ receive ✓ restore ✓ flip ✓ divert ✓ run ✓ switchOff ✓ confirm',
  );
  expect(await cli('park', 'vm1')).toMatchObject({ exitCode: 0, stdout: 'vm1 is parked already' });
  expect(await cli('park', 'vm1', '--json')).toMatchObject({
    stdout: JSON.stringify({ vm: 'vm1', already: true, operation: null }),
  });
});

test('--json gives the operation with the milliseconds of each step', async () => {
  const { operation } = JSON.parse((await cli('park', 'vm1', '--json')).stdout);
  expect(operation).toMatchObject({
    kind: 'park',
    status: 'succeeded',
    result: { off: true, imageBytes: 1 },
  });
  for (const step of operation.steps) expect(step).toMatchObject({ status: 'done', ms: expect.any(Number) });
});

test('--no-wait answers at once with an operation that can be asked for', async () => {
  const { stdout } = await cli('park', 'vm1', '--no-wait');
  expect(await client.get(`/v1/operations/${stdout}`)).toMatchObject({ id: stdout, kind: 'park' });
});

const LINE =
  'woken by sshd[812] for 203.0.113.7:51312: openat("/var/log/lastlog", O_RDWR): opens a file; the VM has the real ones';

test('explain says what woke the VM, in one readable line, what the clients saw, and whether it was needed', async () => {
  await cli('park', 'vm1');
  driver.wake({ cause: 'syscall', at: '2026-11-21T03:00:00.000Z', trigger: TRIGGER });
  await driver.idle();
  const { stdout } = await cli('explain', 'vm1');
  expect(stdout.split('\n')).toEqual([
    expect.stringMatching(/^vm1 is awake since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ$/),
    `${LINE} (rule file.open), at 2026-11-21 03:00:00Z`,
    expect.stringMatching(/^ {2}awake after \d+ ms; \d+ packets? waited(, the first for)? 7 ms$/),
    '  whether the wake was needed is known a minute after it',
    expect.stringMatching(/^leave as it is: without a policy nothing is parked/),
  ]);
  const json = JSON.parse((await cli('explain', 'vm1', '--json')).stdout);
  expect(json).toMatchObject({
    vm: 'vm1',
    state: 'awake',
    lastUnpark: { cause: 'syscall', trigger: TRIGGER },
    lastWake: {
      line: LINE,
      trigger: TRIGGER,
      rule: 'file.open',
      seen: { firstHeldMs: 7 },
      verdict: 'pending',
    },
    wakes: { used: 0, false: 0, unknown: 0, falseByRule: [] },
  });
});

test('what explain prints as JSON has the keys that docs/wakes.md gives', async () => {
  await cli('park', 'vm1');
  driver.wake({ cause: 'syscall', at: '2026-11-21T03:00:00.000Z', trigger: TRIGGER });
  await driver.idle();
  const page = readFileSync(join(import.meta.dirname, '../../../docs/wakes.md'), 'utf8');
  const { lastWake, ...json } = JSON.parse((await cli('explain', 'vm1', '--json')).stdout);
  const list = (value: object) => JSON.stringify(Object.keys(value)).slice(1, -1);
  expect(page).toContain(`{${list(lastWake)}}`);
  expect(page).toContain(`{${list(json.wakes)}:`);
  for (const key of [...Object.keys(json), ...Object.keys(lastWake.seen)]) expect(page).toContain(key);
});

test('a new connection is explained by its addresses', async () => {
  await cli('park', 'vm1');
  const request = { source: '10.77.0.2', sourcePort: 51312, destination: '10.77.0.11', port: 22 };
  driver.wake(synWake({ ...request, vmName: 'vm1', mac: 'm', at: new Date() }));
  await driver.idle();
  expect((await cli('explain', 'vm1')).stdout).toContain(
    'woken by a SYN from 10.77.0.2:51312 to port 22 of 10.77.0.11',
  );
  const { lastWake } = JSON.parse((await cli('explain', 'vm1', '--json')).stdout);
  expect(lastWake).toMatchObject({
    cause: 'syn',
    client: '10.77.0.2:51312',
    rule: 'connection.request',
    trigger: { destination: '10.77.0.11', port: 22 },
  });
});

test('a false wake is said and counted by its rule, wherever the VM is shown', async () => {
  await cli('park', 'vm1');
  driver.wake({ cause: 'syscall', at: '2026-11-21T03:00:00.000Z', trigger: TRIGGER });
  await driver.idle();
  const saga = journal.lastSaga('vm1', 'unpark') as string;
  const body = { verdict: 'false', because: ['no process started'], cause: 'syscall', rule: 'file.open' };
  journal.append([{ vm: 'vm1', saga, event: 'wakeJudged', body }]);
  const explained = (await cli('explain', 'vm1')).stdout;
  expect(explained).toContain('  a false wake: no process started\n');
  expect(explained).toContain('wakes so far: 0 needed, 1 false (by rule: file.open 1)');
  expect((await cli('show', 'vm1')).stdout).toContain('a false wake: no process started');
  expect(JSON.parse((await cli('show', 'vm1', '--json')).stdout)).toMatchObject({
    lastWake: { verdict: 'false', because: ['no process started'] },
    wakes: { used: 0, false: 1, unknown: 0, falseByRule: [{ rule: 'file.open', count: 1 }] },
  });
});

test('events read as a story: operations, wakes and states, and the steps only when they are asked for', async () => {
  await cli('park', 'vm1');
  driver.wake({ cause: 'syscall', at: '2026-11-21T03:00:00.000Z', trigger: TRIGGER });
  await driver.idle();
  const { stdout } = await cli('events', 'vm1');
  const said = stdout.split('\n').map((line) => line.replace(/^\S+ \S+Z {2}vm1 {2}/, ''));
  expect(said).toEqual([
    expect.stringMatching(/^park started \(park-vm1-\w+\)$/),
    expect.stringMatching(/^park succeeded in \d+ ms$/),
    'is parked',
    LINE,
    expect.stringMatching(/^unpark started \(unpark-vm1-\w+\)$/),
    expect.stringMatching(/^unpark succeeded in \d+ ms$/),
    'is awake',
  ]);
  expect((await cli('events', 'vm1', '--steps')).stdout).toMatch(/ {2}vm1 {4}flip succeeded in \d+ ms/);
  const all = (await cli('events', 'vm1', '--json')).stdout.split('\n').map((line) => JSON.parse(line));
  expect(all.find(({ type }) => type === 'wake')).toMatchObject({
    event: 'syscall',
    operation: journal.lastSaga('vm1', 'unpark'),
    detail: LINE,
    wake: { trigger: TRIGGER },
  });
});

test('a VM whose QEMU has gone says so, and what to do', async () => {
  await cli('park', 'vm1');
  loss = { since: '2026-11-21T03:00:00.000Z', reason: 'connect ECONNREFUSED', next: 'Look at its host.' };
  for (const command of ['show', 'explain']) {
    const { stdout } = await cli(command, 'vm1');
    expect(stdout).toContain('its QEMU has gone (noticed at 2026-11-21 03:00:00Z): connect ECONNREFUSED');
    expect(stdout).toContain('Look at its host.');
  }
  expect(JSON.parse((await cli('show', 'vm1', '--json')).stdout)).toMatchObject({ hypervisorLost: loss });
  expect((await cli('list')).stdout).toContain('parked, QEMU gone');
});

test('a VM whose host can’t be reached is unknown, keeps what was recorded of it, and is not parked', async () => {
  const lost = { host: 'hv', since: '2026-11-21T03:00:00.000Z', reason: 'no answer', next: 'Look at hv.' };
  for (const recorded of ['awake', 'parked']) {
    if (recorded === 'parked') await cli('park', 'vm1');
    unreachable.vm = lost;
    expect((await cli('list')).stdout).toContain(`unknown, last ${recorded} `);
    for (const command of ['show', 'explain']) {
      const { stdout } = await cli(command, 'vm1');
      expect(stdout).toContain('its host hv can’t be reached (since 2026-11-21 03:00:00Z): no answer');
      expect(stdout).toContain('Look at hv.');
      const json = JSON.parse((await cli(command, 'vm1', '--json')).stdout);
      expect(json).toMatchObject({ state: 'unknown', recordedState: recorded, hostLost: lost });
    }
    const { exitCode, stderr } = await cli('park', 'vm1');
    expect(exitCode).toBe(8);
    expect(stderr).toContain('HOST_UNREACHABLE: vm1: It is not parked while hv can’t be reached');
    unreachable.vm = null;
  }
  expect(driver.state.kind).toBe('parked');
});

test('an unknown VM, operation or path is a problem with a code, and an exit code of its own', async () => {
  expect(await cli('park', 'nosuch')).toMatchObject({
    exitCode: 4,
    stderr: expect.stringMatching(/^VM_UNKNOWN: /),
  });
  await expect(client.get('/v1/operations/nosuch')).rejects.toMatchObject({ code: 'OPERATION_UNKNOWN' });
  await expect(client.get('/v2')).rejects.toMatchObject({ code: 'ROUTE_UNKNOWN' });
  await expect(client.post('/v1/vms/vm1/unpark', { force: 'perhaps', more: 1 })).rejects.toMatchObject({
    code: 'REQUEST_INVALID',
  });
  const { stdout } = await execa('curl', ['-si', '--unix-socket', socket, 'http://x/v1/vms/nosuch']);
  expect(stdout).toMatch(
    /HTTP\/1.1 404 [\s\S]*content-type: application\/problem\+json[\s\S]*"code":"VM_UNKNOWN"/,
  );
});

test('a VM that can’t be parked is refused by name of the process, and goes on', async () => {
  const refusal = {
    rule: 'shared-memory',
    pid: 77,
    program: 'tomcat',
    reason: 'shares memory',
    remedy: 'stop it',
  };
  world.fault = (_call, name, when) => {
    if (name !== 'vmAgent.scan' || when !== 'before') return;
    throw new SeamlessError('VM_UNPARKABLE', 'tomcat[77]: shares memory; stop it', {
      details: { refusals: [refusal] },
    });
  };
  const refused = await cli('park', 'vm1', '--json');
  expect(refused.exitCode).toBe(7);
  expect(JSON.parse(refused.stdout)).toMatchObject({
    error: { code: 'VM_UNPARKABLE', details: { refusals: [refusal] } },
    operation: { status: 'unwound' },
  });
  world.assertAtRest('awake');
});

test('a dead agent is a refusal, and the VM is untouched', async () => {
  for (const [port, code] of [
    ['vmAgent.describe', 8],
    ['sinkAgent.describe', 8],
  ] as const) {
    world.fault = (_call, name) => {
      if (name === port) throw new SeamlessError('AGENT_UNREACHABLE', `${port} can’t be reached`);
    };
    expect(await cli('park', 'vm1')).toMatchObject({ exitCode: code, stderr: expect.stringContaining(port) });
    world.assertAtRest('awake');
  }
});

test('a stuck VM says what to do, and a forced unpark does it', async () => {
  world.fault = (_call, name) => {
    if (name === 'sinkAgent.receive' || name === 'vmAgent.restore')
      throw new SeamlessError('TIMEOUT', 'no answer');
  };
  expect(await cli('park', 'vm1')).toMatchObject({ exitCode: 6 });
  expect(await cli('unpark', 'vm1')).toMatchObject({
    exitCode: 6,
    stderr: expect.stringContaining('--force'),
  });
  expect((await cli('show', 'vm1')).stdout).toContain('seamless unpark vm1 --force');
  world.fault = () => {};
  expect(await cli('unpark', 'vm1', '--force')).toMatchObject({ exitCode: 0 });
  world.assertAtRest('awake');
});

test('events resume behind the last one seen, without a gap', async () => {
  await cli('park', 'vm1');
  const all = (await cli('events', '--json')).stdout.split('\n').map((line) => JSON.parse(line));
  expect(all.map(({ type, event, step }) => step ?? `${type} ${event}`)).toEqual(
    expect.arrayContaining(['operation started', 'vm parking', 'flip', 'operation succeeded', 'vm parked']),
  );
  const third = all[2].id;
  const rest = [];
  for await (const event of client.events({ vm: 'vm1', after: third, follow: false })) rest.push(event);
  expect(rest).toEqual(all.slice(3));
  const { stdout } = await execa('curl', [
    ...['-s', '--unix-socket', socket, '-H', `Last-Event-ID: ${third}`],
    'http://x/v1/events?follow=false',
  ]);
  expect(stdout.match(/^id: \d+$/gm)?.length).toBe(rest.length);
});

test('profile learn prints a proposal with its reasons, and refuses what it can’t watch', async () => {
  const { exitCode, stdout } = await cli('profile', 'learn', 'vm1', '--seconds', '60');
  expect(exitCode).toBe(0);
  expect(stdout).toContain('paths: ["/etc/tomcat10/server.xml"]');
  expect(stdout).toContain('6 times (every 10.0 s)');
  expect(await cli('profile', 'learn', 'vm1', '--seconds', '0')).toMatchObject({ exitCode: 2 });
  await cli('park', 'vm1');
  expect(await cli('profile', 'learn', 'vm1')).toMatchObject({
    exitCode: 2,
    stderr: expect.stringContaining('unpark it first'),
  });
});

test('without an orchestrator the CLI says where it looked', async () => {
  const { exitCode, stderr } = await run(['--socket', '/nonexistent/socket', 'list']);
  expect(exitCode).toBe(3);
  expect(stderr).toContain('/nonexistent/socket');
});

test('wrong use of the CLI is answered with its usage', async () => {
  expect(await cli('frobnicate')).toMatchObject({
    exitCode: 2,
    stderr: expect.stringContaining('unknown command'),
  });
});

function cli(...args: string[]) {
  return run([...args, '--socket', socket]);
}

async function run(args: string[]) {
  const { exitCode, stdout, stderr } = await execa(process.execPath, [CLI, ...args], { reject: false });
  return { exitCode, stdout, stderr };
}
