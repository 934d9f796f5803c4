/** The QMP client against a real QEMU that has no machine, and against a peer that misbehaves. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { localHost } from '../../../orchestrator/host/local.ts';
import { Qmp } from '../../../orchestrator/hypervisor/qmp.ts';

const folder = mkdtempSync(join(tmpdir(), 'seamless-qmp-'));
const socket = join(folder, 'qmp.sock');
const qemu: { pid?: number; ended?: Promise<unknown> } = {};

beforeAll(async () => {
  await startQemu();
});

afterAll(async () => {
  if (qemu.pid) process.kill(qemu.pid, 'SIGKILL');
  await qemu.ended;
  rmSync(folder, { recursive: true, force: true });
});

test('a command gives what QEMU returns, over one kept connection', async () => {
  const qmp = client();
  expect(qmp.runState).toBe('idle');
  expect(await qmp.execute('query-status')).toMatchObject({ status: 'running', running: true });
  expect(qmp.runState).toBe('running');
  await qmp.execute('stop');
  expect(await qmp.execute('query-status')).toMatchObject({ status: 'paused', running: false });
  await qmp.execute('cont');
});

test('commands may be sent at once and get each its own answer', async () => {
  const qmp = client();
  const [status, version] = await Promise.all([qmp.execute('query-status'), qmp.execute('query-version')]);
  expect(status).toHaveProperty('running');
  expect(version).toHaveProperty('qemu');
});

test('events are heard', async () => {
  const events: string[] = [];
  const qmp = client({ onEvent: (event) => events.push(event) });
  await qmp.execute('stop');
  await qmp.execute('cont');
  await vi.waitUntil(() => events.includes('RESUME'), { timeout: 2000, interval: 5 });
  expect(events).toEqual(['STOP', 'RESUME']);
});

test('an error of QEMU says what was sent and what came back', async () => {
  const qmp = client();
  await expect(qmp.execute('balloon', { value: 1 })).rejects.toMatchObject({
    code: 'COMMAND_FAILED',
    details: { sent: expect.stringContaining('"balloon"'), received: expect.stringContaining('"error"') },
  });
});

test('the end of QEMU rejects what is pending, and the client serves a new QEMU', async () => {
  const qmp = client();
  await qmp.connect();
  const pending = expect(qmp.execute('query-status')).resolves.toBeTruthy();
  await pending;
  process.kill(qemu.pid as number, 'SIGKILL');
  await qemu.ended;
  await vi.waitUntil(() => qmp.runState === 'idle', { timeout: 2000, interval: 5 });
  await expect(qmp.execute('query-status')).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
  await startQemu();
  expect(await qmp.execute('query-status')).toHaveProperty('running');
});

test('a peer that goes away in the midst of a command rejects it, and one that says nothing is given up', async () => {
  const qmp = await clientOf((peer) => {
    peer.write('{"QMP": {"version": {}, "capabilities": []}}\n');
    createInterface({ input: peer }).on('line', (line) => {
      const { execute, id } = JSON.parse(line);
      if (execute === 'qmp_capabilities') peer.write(`{"return": {}, "id": ${id}}\n`);
      if (execute === 'quit') peer.destroy();
    });
  });
  await expect(qmp.execute('query-status', {}, { timeoutMs: 50 })).rejects.toMatchObject({ code: 'TIMEOUT' });
  const aborted = AbortSignal.abort();
  await expect(qmp.execute('query-status', {}, { signal: aborted })).rejects.toMatchObject({
    code: 'ABORTED',
  });
  const other = expect(qmp.execute('query-version')).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
  await expect(qmp.execute('quit')).rejects.toMatchObject({
    code: 'HOST_UNREACHABLE',
    details: { sent: expect.stringContaining('quit') },
  });
  await other;
});

test('a peer that does not speak QMP is refused', async () => {
  const qmp = await clientOf((peer) => void peer.write('SSH-2.0-OpenSSH\n'));
  await expect(qmp.execute('query-status')).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
  expect(qmp.runState).toBe('idle');
});

function client(more: { onEvent?: (event: string) => void } = {}): Qmp {
  const qmp = new Qmp({ name: 'vm1', connect: (signal) => localHost().connect(socket, signal), ...more });
  onTestFinished(() => qmp.close());
  return qmp;
}

async function clientOf(serve: (peer: Socket) => void): Promise<Qmp> {
  const path = join(folder, 'peer.sock');
  const server = createServer(serve).listen(path);
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const qmp = new Qmp({ name: 'vm1', connect: (signal) => localHost().connect(path, signal) });
  onTestFinished(() => qmp.close());
  return qmp;
}

async function startQemu(): Promise<void> {
  rmSync(socket, { force: true });
  const argv = ['-machine', 'none', '-nodefaults', '-nographic', '-accel', 'tcg', '-S'];
  const child = spawn('qemu-system-x86_64', [...argv, '-qmp', `unix:${socket},server=on,wait=off`], {
    stdio: 'ignore',
  });
  qemu.pid = child.pid as number;
  qemu.ended = once(child, 'exit');
  await vi.waitUntil(() => existsSync(socket), { timeout: 10_000, interval: 10 });
  const qmp = new Qmp({ name: 'vm1', connect: (signal) => localHost().connect(socket, signal) });
  await qmp.execute('cont');
  qmp.close();
}
