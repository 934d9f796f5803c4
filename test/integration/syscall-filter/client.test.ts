/** A trigger names the client whom the thread served, else its process, else an ancestor. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { filterVictim, REPOSITORY, startProcess, thaw } from './fixtures/victim.ts';

const binary = join(REPOSITORY, 'build/sanitized/syscall-filter');

beforeAll(() => exec([join(REPOSITORY, 'scripts/build-helpers'), '--sanitize'], { timeoutMs: 110_000 }));

async function serve() {
  const script = join(import.meta.dirname, 'fixtures/served.pl');
  const victim = await startProcess((port, folder) => ['perl', script, port, folder], onTestFinished);
  const [udp = 0, tcp = 0] = victim.greeting.split(' ').slice(1).map(Number);
  const watched = await filterVictim(victim, binary, { accept: 'allow' });
  await watched.filter.go();
  return { victim, udp, tcp, ...watched };
}

test('the sender of a datagram', async () => {
  const { udp, trigger, filter, victim } = await serve();
  const [other, client] = [createSocket('udp4'), createSocket('udp4')];
  onTestFinished(() => [other, client].forEach((socket) => void socket.close()));
  await new Promise((sent) => other.send('nothing', udp, '127.0.0.1', sent));
  await new Promise((sent) => client.send('x', udp, '127.0.0.1', sent));
  const { client: named, detail } = await trigger;
  expect(detail).toContain('/x"');
  expect(named).toBe(`127.0.0.1:${client.address().port}`);
  await filter.exited;
  await thaw(victim.cgroup);
});

test('the client of the parent, for a worker at the end of a pipe; an IPv4 address as such', async () => {
  const { tcp, trigger, filter, victim } = await serve();
  const clients = [connect(tcp, '127.0.0.1'), connect(tcp, '127.0.0.1')] as const;
  onTestFinished(() => clients.forEach((client) => void client.destroy()));
  await Promise.all(clients.map((client) => once(client, 'connect')));
  clients[0].write('y');
  const { client: named, pid, detail } = await trigger;
  expect(pid).not.toBe(victim.pid);
  expect(detail).toContain('/y"');
  expect(named).toBe(`127.0.0.1:${clients[0].localPort}`);
  await filter.exited;
  await thaw(victim.cgroup);
});

test('nobody, when nothing was received', async () => {
  const { trigger, filter, victim } = await serve();
  process.kill(victim.pid, 'SIGTERM');
  expect((await trigger).client).toBeUndefined();
  await filter.exited;
});
