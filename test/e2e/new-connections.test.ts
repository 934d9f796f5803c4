/**
 * A parked VM with a port that accepts, one that holds and a source of health checks, through real switches: what stays in the sink,
 * what wakes, and that nothing of either is lost. In a native VM, since the point is the network; a real one by
 * SEAMLESS_TEST_ON=qemu.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { exec } from '../../common/exec.ts';
import { takeDown } from '../../lab/down.ts';
import { namespacePath } from '../../lab/plan.ts';
import { orchestratorConfigPath } from '../../lab/services.ts';
import { type ApiClient, apiClient, findSocket } from '../../orchestrator/cli/client.ts';
import type { Operation } from '../../orchestrator/vm/operation.ts';
import { waitFor } from '../integration/sink-agent/fixtures/wait.ts';
import { planOwnLab, SOURCE, startVm1 } from './fixtures/native-lab.ts';
import { say, wantsNative } from './fixtures/shared-stage.ts';
import { Connection } from './gateways/connection.ts';
import { Guest } from './gateways/guest.ts';

const BURST = join(SOURCE, 'test/integration/syscall-filter/fixtures/burst.ts');
const lab = planOwnLab('conn');
const ADDRESS = '10.77.0.11';
const ADDRESS6 = 'fd77::11';
const CHECKER = '10.77.0.99';
const PORT = 7000;
const UNIT = `[Unit]
Description=Services of a test
[Service]
ExecStart=/usr/bin/perl /srv/services.pl ${PORT} 2
`;
let api: ApiClient;

beforeAll(async () => {
  const state = await startVm1(lab, 2048, { native: wantsNative() });
  const guest = new Guest(lab, state, 'vm1');
  await guest.write(
    '/srv/services.pl',
    await readFile(join(SOURCE, 'test/e2e/fixtures/services.pl'), 'utf8'),
  );
  await guest.write('/etc/systemd/system/services.service', UNIT);
  await guest.start(['services.service']);
  await guest.listening(`tcp/${PORT}`);
  await atClient('ip', 'address', 'add', `${CHECKER}/24`, 'dev', 'prod0');
  await configure({ ports: { [`tcp/${PORT}`]: { syn: 'accept' } }, healthChecks: [CHECKER] });
  api = apiClient(findSocket(undefined, process.env));
}, 400_000);

afterAll(() => takeDown(lab, say), 120_000);

/** Changes the VM's part of the orchestrator's configuration. */
async function configure(more: object): Promise<void> {
  const path = orchestratorConfigPath(lab);
  const config = JSON.parse(await readFile(path, 'utf8')) as { vms: object[] };
  await writeFile(path, JSON.stringify({ ...config, vms: config.vms.map((vm) => ({ ...vm, ...more })) }));
  for (const step of ['stop', 'start']) await exec([join(SOURCE, 'scripts/lab'), step, 'orchestrator']);
}

function atClient(...argv: [string, ...string[]]) {
  return exec(['nsenter', `--net=${namespacePath(lab, 'client')}`, '--', ...argv]);
}

function client(...argv: string[]): Connection {
  const connection = new Connection(namespacePath(lab, 'client'), argv);
  onTestFinished(() => connection.close());
  return connection;
}

async function state(): Promise<string> {
  const { vms } = await api.get<{ vms: { name: string; state: string }[] }>('/v1/vms');
  return vms[0]?.state ?? '';
}

async function park(): Promise<void> {
  await waitFor(
    'the VM to be parked',
    async () => {
      if ((await state()) === 'parked') return true;
      const { operation } = await api.post<{ operation: Operation | null }>('/v1/vms/vm1/park');
      return waitFor('the park to end', async () => {
        const { status } = await api.get<Operation>(`/v1/operations/${operation?.id}`);
        return status === 'running' ? null : status === 'succeeded' || null;
      }).catch(() => null);
    },
    30_000,
  );
}

/** Waits for the VM to be awake; gives what woke it. */
async function woken(): Promise<Operation['trigger']> {
  await waitFor('the VM to be awake', async () => ((await state()) === 'awake' ? true : null), 20_000);
  const { lastUnpark } = await api.get<{ lastUnpark: Operation | null }>('/v1/vms/vm1');
  return lastUnpark?.trigger ?? null;
}

/** A connect from `source`, closed at once or after saying something; `closed TEXT` or the error's code. */
async function connectOnce(port: number, source?: string, text = ''): Promise<string> {
  const local = source ? `, localAddress: '${source}'` : '';
  const script = `let heard = ''; const s = require('node:net').connect({ host: '${ADDRESS}', port: ${port}${local} });
    s.on('connect', () => s.${text ? `write('${text}')` : 'end()'}).on('data', (d) => { heard += d; });
    s.on('error', (e) => console.log('end ' + e.code)).on('close', (failed) => { if (!failed) console.log('end closed ' + heard); });`;
  const [, outcome = ''] = await client(process.execPath, '-e', script).expect(/end (.*)/);
  return outcome.trim();
}

test('probes, new connections answered from memory, checks of listed sources and scans leave the VM parked', async () => {
  await park();
  expect(await connectOnce(PORT)).toBe('closed welcome');
  const fresh = client('socat', '-', `TCP:${ADDRESS}:${PORT}`);
  await fresh.expect(/welcome/);
  await fresh.ask('from memory\n', /from memory/);
  const fresh6 = client('socat', '-', `TCP:[${ADDRESS6}]:${PORT}`);
  await fresh6.expect(/welcome/);
  expect(await connectOnce(22, CHECKER)).toBe('closed');
  expect(await connectOnce(PORT, CHECKER)).toBe('closed');
  for (const source of [undefined, CHECKER]) expect(await connectOnce(23, source)).toBe('ECONNREFUSED');
  const udp = client('socat', '-', `UDP:${ADDRESS}:${PORT}`);
  await udp.ask('datagram from memory\n', /datagram from memory/);
  expect(await state()).toBe('parked');
  fresh.send('file /etc/hostname\n');
  await fresh.expect(/file vm1/);
  expect(await woken()).toMatchObject({ program: 'perl', syscall: 'openat' });
  await fresh6.ask('still here\n', /still here/);
}, 90_000);

test('50 clients that connect at once while a trigger comes are all served: none refused, reset or lost', async () => {
  const waker = client('socat', '-', `TCP:${ADDRESS}:${PORT}`);
  await waker.expect(/welcome/);
  await park();
  const started = performance.now();
  const burst = client(process.execPath, BURST, ADDRESS, `${PORT}`, '50', 'welcome');
  await burst.expect(/connected/);
  waker.send('file /etc/hostname\n');
  const [outcomes] = await burst.expect(/\[.*\]/, 30_000);
  say(`50 clients served ${Math.round(performance.now() - started)} ms after the first connected`);
  expect(JSON.parse(outcomes)).toEqual(Array(50).fill('served'));
  await waker.expect(/file vm1/);
  expect(await woken()).toMatchObject({ program: 'perl', syscall: 'openat' });
}, 90_000);

test('of 20 datagrams, the first of which needs a file, each is answered once', async () => {
  await park();
  const script = `const s = require('node:dgram').createSocket('udp4'); s.on('message', (m) => process.stdout.write(m));
    for (let i = 0; i < 20; i++) s.send(i === 0 ? 'file /etc/hostname' : 'datagram ' + i + '\\n', ${PORT}, '${ADDRESS}');`;
  const many = client(process.execPath, '-e', script);
  await many.expect(/file vm1/);
  expect(await woken()).toMatchObject({ program: 'perl', syscall: 'openat' });
  const heard = () => many.received.trim().split('\n');
  await waitFor('all answers', () => (heard().length >= 20 ? true : null));
  const expected = Array.from({ length: 19 }, (_each, index) => `datagram ${index + 1}`);
  // At least one waited unread in the sink, and went on to the VM from there.
  expect(await readFile(join(lab.runDirectory, 'sink-agent.log'), 'utf8')).toContain('sink.returned');
  expect(heard().sort()).toEqual([...expected, 'file vm1'].sort());
}, 90_000);

test('a check that sends data is reset and wakes; a connection to a held port wakes and is served', async () => {
  await park();
  expect(await connectOnce(PORT, CHECKER, 'GET /')).toBe('ECONNRESET');
  expect(await woken()).toMatchObject({ program: 'connect-check', rule: 'connection.check' });
  await park();
  const ssh = client('socat', '-', `TCP:${ADDRESS}:22`);
  await ssh.expect(/SSH-2.0/);
  expect(await woken()).toMatchObject({ syscall: 'SYN' });
}, 90_000);
