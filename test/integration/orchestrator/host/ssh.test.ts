/** A host reached by ssh: the contract, and what becomes of it when the connection does not hold. */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { SeamlessError } from '../../../../common/errors.ts';
import { exec } from '../../../../common/exec.ts';
import { type SshHostOptions, sshHost } from '../../../../orchestrator/host/ssh.ts';
import type { HostTransport } from '../../../../orchestrator/host/transport.ts';
import { hostContract, readBytes } from './contract.ts';
import { makeSshServer, type SshServer } from './fixtures/ssh-server.ts';

let server: SshServer;
const DEAD_AFTER_MS = 2000;

beforeAll(async () => {
  server = await makeSshServer('slth');
});
afterAll(() => server?.remove());

describe('a host by ssh', () => {
  let host: HostTransport;
  beforeAll(() => {
    host = sshHost(server.options);
  });
  afterAll(() => host?.close());
  hostContract(() => host);

  test('all of it went over one connection', () => {
    expect(server.log().match(/Accepted publickey/g)).toHaveLength(1);
  });

  test('reading and writing a file, and connecting to a socket, start no process there', async () => {
    const path = join(server.folder, 'value');
    await host.writeFile(path, '1');
    const before = await lastPid();
    for (let round = 0; round < 20; round++) {
      await host.writeFile(path, String(round));
      await host.readFile(path);
    }
    // Others on this machine start processes too; twenty rounds of ours would be forty at least.
    expect((await lastPid()) - before).toBeLessThan(20);
  });
});

beforeEach(() => server.mend());

describe('a connection that does not hold', () => {
  test('sshd restarted: what was under way rejects, what comes after works', async () => {
    const { host, downs } = connected();
    const socket = await host.connect(await greeter());
    await readBytes(socket, 5);
    const lost = new Promise<Error>((resolve) => socket.once('error', resolve));
    const running = host.run(['sleep', '60']);
    running.catch(() => {});
    await server.stop();
    await expect(running).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
    expect(await lost).toMatchObject({ code: 'HOST_UNREACHABLE' });
    expect(socket.destroyed).toBe(true);
    await server.start();
    expect((await host.run(['echo', 'back'])).stdout).toBe('back');
    expect(await host.readFile('/proc/version')).toContain('Linux');
    expect(downs.length).toBeGreaterThan(0);
  });

  test('cut for 1 s: nothing is lost', async () => {
    const { host } = connected({ deadAfterMs: 8000 });
    await host.run(['true']);
    const accepted = acceptedCount();
    const running = host.run(['sh', '-c', 'sleep 0.5; echo done']);
    await server.cut();
    await delay(1000);
    await server.mend();
    expect((await running).stdout).toBe('done');
    expect(acceptedCount()).toBe(accepted);
  });

  test('cut for 10 s: calls reject in time, and the connection comes back, the old one’s sockets let go', async () => {
    const { host, ups } = connected();
    const path = await greeter('one client at a time');
    const socket = await host.connect(path);
    await readBytes(socket, 5);
    const running = host.run(['sleep', '60']).catch((error: SeamlessError) => error);
    const since = performance.now();
    await server.cut();
    expect(await running).toMatchObject({ code: 'HOST_UNREACHABLE' });
    expect(performance.now() - since).toBeLessThan(DEAD_AFTER_MS + 1500);
    expect(socket.destroyed).toBe(true);
    await delay(10_000 - (performance.now() - since));
    await server.mend();
    await vi.waitUntil(() => ups.count === 2, { timeout: 9000, interval: 20 });
    // The cut connection’s sshd never heard of its end: would it still hold the socket, nobody would be greeted.
    const again = await host.connect(path);
    expect((await readBytes(again, 5)).toString()).toBe('hello');
    again.destroy();
  }, 40_000);

  test('cut for ever: every call rejects within bounded time, later ones at once', async () => {
    const { host, downs } = connected();
    await host.run(['true']);
    await server.cut();
    const since = performance.now();
    const calls = [host.run(['true']), host.readFile('/proc/version'), host.connect('/run/x.sock')];
    for (const call of await Promise.allSettled(calls)) {
      expect(call).toMatchObject({ status: 'rejected', reason: { code: 'HOST_UNREACHABLE' } });
    }
    expect(performance.now() - since).toBeLessThan(DEAD_AFTER_MS + 1500);
    await expect(host.run(['true'])).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
    expect(performance.now() - since).toBeLessThan(DEAD_AFTER_MS + 8000);
    const later = performance.now();
    await expect(host.run(['true'])).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
    expect(performance.now() - later).toBeLessThan(100);
    expect(downs.length).toBeGreaterThan(0);
    await host.close();
  }, 40_000);
});

describe('a host that is not the one, or does not want us', () => {
  test('a wrong host key is refused before anything is sent, said, and not tried again at once', async () => {
    const other = readFileSync(`${await server.makeKey('other-host')}.pub`, 'utf8');
    const accepted = acceptedCount();
    const { host, downs } = connected({ hostKey: other });
    await expect(host.run(['true'])).rejects.toMatchObject({
      code: 'HOST_UNREACHABLE',
      message: expect.stringMatching(/expected the host key SHA256:\S+, got SHA256:/),
      details: { refused: 'host key' },
    });
    const later = performance.now();
    await expect(host.readFile('/proc/version')).rejects.toMatchObject({ details: { refused: 'host key' } });
    expect(performance.now() - later).toBeLessThan(50);
    expect(downs).toHaveLength(1);
    expect(acceptedCount()).toBe(accepted);
  });

  test('a fingerprint pins as well, and so does a key of another kind that the host has', async () => {
    const { stdout } = await exec(['ssh-keygen', '-lf', join(server.folder, 'host.pub')]);
    const [, fingerprint = ''] = stdout.split(' ');
    const rsa = readFileSync(join(server.folder, 'host-rsa.pub'), 'utf8');
    for (const hostKey of [fingerprint, rsa, ['SHA256:'.padEnd(50, 'A'), fingerprint]]) {
      const { host } = connected({ hostKey });
      await expect(host.run(['true'])).resolves.toBeDefined();
    }
  });

  test('a refused authentication names the account and the key', async () => {
    const { host } = connected({ keyFile: await server.makeKey('stranger') });
    await expect(host.run(['true'])).rejects.toMatchObject({
      code: 'HOST_UNREACHABLE',
      message: expect.stringMatching(/root@10.76.0.2 does not accept the key .*stranger/),
      details: { refused: 'authentication' },
    });
  });

  test('a key file that is not there, and a host that is not, are said', async () => {
    const noKey = connected({ keyFile: '/nowhere/key' });
    await expect(noKey.host.run(['true'])).rejects.toMatchObject({
      code: 'HOST_UNREACHABLE',
      message: expect.stringContaining('/nowhere/key'),
    });
    const nobody = connected({ address: '10.76.0.77' });
    await expect(nobody.host.run(['true'])).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
  }, 30_000);

  test('a call that is aborted does not wait for the connection', async () => {
    const { host } = connected({ address: '10.76.0.78' });
    const controller = new AbortController();
    const connecting = host.connect('/run/x.sock', controller.signal);
    connecting.catch(() => {});
    controller.abort(new Error('given up'));
    await expect(connecting).rejects.toThrow('given up');
  });
});

/** A transport that ends with the test, and what it tells of its connection. */
function connected(more: Partial<SshHostOptions> = {}) {
  const ups = { count: 0 };
  const downs: SeamlessError[] = [];
  const host = sshHost({
    ...server.options,
    deadAfterMs: DEAD_AFTER_MS,
    onUp: () => void ups.count++,
    onDown: (reason) => void downs.push(reason),
    ...more,
  });
  onTestFinished(() => host.close());
  return { host, ups, downs };
}

function acceptedCount(): number {
  return server.log().match(/Accepted publickey/g)?.length ?? 0;
}

/** Greets each client; with `one client at a time` the next only when the one before has gone, as QEMU does. */
async function greeter(how?: 'one client at a time'): Promise<string> {
  const path = join(server.folder, `greeter-${performance.now()}.sock`);
  const waiting: Socket[] = [];
  let served: Socket | undefined;
  const next = () => {
    served = waiting.shift();
    served?.once('close', next);
    served?.write('hello');
  };
  const listening = createServer((client) => {
    client.on('error', () => {});
    client.resume();
    waiting.push(client);
    if (!served || how === undefined) next();
  });
  await new Promise<void>((resolve) => listening.listen(path, resolve));
  onTestFinished(() => {
    served?.destroy();
    listening.close();
    if (existsSync(path)) rmSync(path);
  });
  return path;
}

async function lastPid(): Promise<number> {
  return Number(readFileSync('/proc/loadavg', 'utf8').trim().split(' ')[4]);
}
