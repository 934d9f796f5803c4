/** The watch over a real QMP client and a socket that speaks QEMU’s greeting, until it ends. */
import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { expect, onTestFinished, test, vi } from 'vitest';
import { silentLog } from '../../../../common/log.ts';
import { Slots } from '../../../../orchestrator/host/ssh/slots.ts';
import { Qmp } from '../../../../orchestrator/hypervisor/qmp.ts';
import { type Journal, openJournal } from '../../../../orchestrator/saga/journal.ts';
import { HypervisorWatch } from '../../../../orchestrator/vm/hypervisor-watch.ts';
import { temporaryFolder } from '../saga/suite.ts';

const DEADLINE = { timeout: 5000, interval: 2 };

test('a QEMU that ends is noticed at once, with what to do, and its return too', async () => {
  const { path, journal, watch, calls } = setUp();
  const qemu = await startQemu(path);
  watch.start();
  await vi.waitUntil(() => qemu.clients.size === 1, DEADLINE);
  expect(watch.loss).toBeNull();
  await qemu.end();
  await vi.waitUntil(() => watch.loss !== null, DEADLINE);
  expect(watch.loss).toMatchObject({ reason: expect.stringContaining('QMP of vm1') });
  expect(watch.loss?.next).toContain('live on in its sink, the only copy');
  expect(states(journal)).toEqual(['lost']);
  await startQemu(path);
  await vi.waitUntil(() => watch.loss === null, DEADLINE);
  expect(states(journal)).toEqual(['lost', 'back']);
  expect(calls).toEqual(['back']);
});

test('a connection that only broke is made again, and is no loss', async () => {
  const { path, journal, watch } = setUp();
  const qemu = await startQemu(path);
  watch.start();
  await vi.waitUntil(() => qemu.clients.size === 1, DEADLINE);
  const [first] = qemu.clients;
  first?.destroy();
  await vi.waitUntil(() => qemu.clients.size === 1 && !qemu.clients.has(first as Socket), DEADLINE);
  expect(watch.loss).toBeNull();
  expect(states(journal)).toEqual([]);
});

test('a QEMU that ended while the orchestrator was away is noticed at its start, and told once', async () => {
  const { path, journal, watch } = setUp();
  watch.start();
  await vi.waitUntil(() => watch.loss !== null, DEADLINE);
  watch.stop();
  const next = setUp({ path, journal });
  next.watch.start();
  expect(next.watch.loss).toEqual(watch.loss);
  await next.refused(3);
  expect(states(journal)).toEqual(['lost']);
});

test('thousands that start at once connect in turns', async () => {
  const turns = new Slots(3);
  const gate = Promise.withResolvers<void>();
  let [now, most, all] = [0, 0, 0];
  const connect = async () => {
    [now, all] = [now + 1, all + 1];
    most = Math.max(most, now);
    await gate.promise;
    now -= 1;
    return new PassThrough();
  };
  for (let vm = 0; vm < 12; vm += 1) {
    const watch = new HypervisorWatch({
      ...{ vm: `vm${vm}`, journal: openJournal(':memory:'), log: silentLog },
      qmp: { connect, onLost() {} },
      turn: (signal) => turns.take(signal),
      state: () => 'awake',
      hostLost: () => false,
    });
    watch.start();
    onTestFinished(() => watch.stop());
  }
  await vi.waitUntil(() => now === 3, DEADLINE);
  gate.resolve();
  await vi.waitUntil(() => all === 12 && now === 0, DEADLINE);
  expect(most).toBe(3);
});

test('while its host can’t be reached nobody says that QEMU has gone; once the host is back, it is asked', async () => {
  const { journal, watch, host, refused } = setUp();
  host.lost = true;
  watch.start();
  await refused(5);
  expect(watch.loss).toBeNull();
  expect(states(journal)).toEqual([]);
  host.lost = false;
  await vi.waitUntil(() => watch.loss !== null, DEADLINE);
  watch.stop();
});

test('a QEMU that was ended on purpose is no loss, until nothing says so any more', async () => {
  const { journal, watch, host, refused } = setUp();
  host.away = true;
  watch.start();
  await refused(5);
  expect(watch.loss).toBeNull();
  expect(states(journal)).toEqual([]);
  host.away = false;
  await vi.waitUntil(() => watch.loss !== null, DEADLINE);
  host.away = true; // as when its memory turns out to be in a file after all
  await vi.waitUntil(() => watch.loss === null, DEADLINE);
  expect(states(journal)).toEqual(['lost', 'back']);
  watch.stop();
});

function setUp(over: { path?: string; journal?: Journal } = {}) {
  const path = over.path ?? join(temporaryFolder(), 'qmp.sock');
  const journal = over.journal ?? openJournal(':memory:');
  const calls: string[] = [];
  const host = { lost: false, away: false };
  let attempts = 0;
  const connect = async () => {
    attempts += 1;
    const socket = createConnection({ path });
    await once(socket, 'connect');
    return socket;
  };
  const qmp = new Qmp({ name: 'vm1', connect });
  const watch = new HypervisorWatch({
    vm: 'vm1',
    qmp,
    journal,
    log: silentLog,
    state: () => 'parked',
    hostLost: () => host.lost,
    away: async () => host.away,
    onBack: () => calls.push('back'),
    backoffMs: { first: 5, most: 20 },
  });
  onTestFinished(() => {
    watch.stop();
    qmp.close();
  });
  const refused = (count: number) => vi.waitUntil(() => attempts >= count, DEADLINE);
  return { path, journal, watch, calls, host, refused };
}

async function startQemu(path: string): Promise<{ clients: Set<Socket>; end(): Promise<void> }> {
  const clients = new Set<Socket>();
  const server: Server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('close', () => clients.delete(socket));
    socket.write('{"QMP": {"version": {}, "capabilities": []}}\n');
    socket.on('data', (data) => {
      const { id } = JSON.parse(String(data)) as { id: number };
      socket.write(`{"return": {}, "id": ${id}}\n`);
      clients.add(socket);
    });
  });
  server.listen(path);
  await once(server, 'listening');
  const end = async () => {
    for (const client of clients) client.destroy();
    await new Promise((resolve) => server.close(resolve));
  };
  onTestFinished(end);
  return { clients, end };
}

function states(journal: Journal): unknown[] {
  return journal.all('vm1', 'hypervisor').map(({ body }) => body.state);
}
