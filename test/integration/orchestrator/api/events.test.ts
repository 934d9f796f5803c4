import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { connect, type Socket } from 'node:net';
import { expect, onTestFinished, test, vi } from 'vitest';
import { EventFan } from '../../../../orchestrator/api/event-stream.ts';
import { type Journal, type JournalRecord, openJournal } from '../../../../orchestrator/saga/journal.ts';
import { type Served, serve } from './served.ts';

test('a stream that broke goes on behind Last-Event-ID, without a gap and without one twice', async () => {
  const served = await serve();
  const first = await open(served, '/v1/events?after=0');
  await served.client.post('/v1/vms/vm1/park');
  await vi.waitFor(() => expect(first.ids.length).toBeGreaterThan(5));
  first.response.destroy();
  const last = first.ids.at(-1) as number;
  await served.vms.get('vm1')?.driver.idle();
  await served.client.post('/v1/vms/vm1/unpark');
  await served.vms.get('vm1')?.driver.idle();
  const second = await open(served, '/v1/events', { 'last-event-id': String(last) });
  const all = served.journal.after(0, { limit: 1000 }).map(({ seq }) => seq);
  await vi.waitFor(() => expect(second.ids.at(-1)).toBe(all.at(-1)));
  const seen = [...first.ids, ...second.ids];
  expect(seen).toEqual([...new Set(seen)].toSorted((a, b) => a - b));
  expect(all.filter((id) => !seen.includes(id))).toEqual([]);
  second.response.destroy();
});

test('streams end with a word when the service ends', async () => {
  const served = await serve();
  const stream = await open(served, '/v1/events');
  await served.restart();
  await vi.waitFor(() => expect(stream.text()).toContain('event: end'));
});

test('a client that does not read costs no memory, gets everything when it reads again, and others don’t wait', async () => {
  const { journal, port } = await fan({ patienceMs: 30_000 });
  const slow = await raw(port);
  const quick = await raw(port);
  slow.pause();
  const got = { slow: '', quick: '' };
  quick.on('data', (chunk) => {
    got.quick += chunk;
  });
  fill(journal, 300);
  await vi.waitFor(() => expect(got.quick).toContain('id: 300\n'), 10_000);
  slow.on('data', (chunk) => {
    got.slow += chunk;
  });
  slow.resume();
  await vi.waitFor(() => expect(got.slow).toContain('id: 300\n'), 10_000);
  const ids = [...got.slow.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id));
  expect(ids).toEqual(Array.from({ length: 300 }, (_, index) => index + 1));
});

test('a client that reads nothing for too long is cut, and told where to resume', async () => {
  const { journal, port } = await fan({ patienceMs: 300 });
  const slow = await raw(port);
  slow.pause();
  fill(journal, 300);
  let text = '';
  await new Promise((resolve) => setTimeout(resolve, 400)); // Its patience, which is what is tried here.
  slow.on('data', (chunk) => {
    text += chunk;
  });
  slow.resume();
  await once(slow, 'close');
  const [, resume] = /event: end\ndata: .*"resume":(\d+)/.exec(text) ?? [];
  const ids = [...text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id));
  expect(ids.at(-1)).toBe(Number(resume));
  expect(Number(resume)).toBeLessThan(300);
});

/** A fan over a journal whose records are large, so that a socket is soon full. */
async function fan({ patienceMs }: { patienceMs: number }): Promise<{ journal: Journal; port: number }> {
  const journal = openJournal(':memory:');
  const frameOf = ({ seq }: JournalRecord) => ({
    text: `id: ${seq}\ndata: ${'x'.repeat(50_000)}\n\n`,
    isStep: false,
  });
  const streams = new EventFan(journal, frameOf, {
    ...{ page: 50, beatMs: 15_000, patienceMs, roundMs: 5, atOnce: 1 },
  });
  const server = createServer((_request, response) => {
    streams.serve(response, { steps: true, from: 0, follow: true });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    streams.close();
    server.closeAllConnections();
    server.close();
    journal.close();
  });
  return { journal, port: (server.address() as AddressInfo).port };
}

function fill(journal: Journal, records: number): void {
  for (let index = 0; index < records; index += 1) journal.append([{ vm: 'vm1', event: 'hypervisor' }]);
}

async function raw(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
  await once(socket, 'readable');
  return socket;
}

async function open(
  { socket }: Served,
  path: string,
  headers: Record<string, string> = {},
): Promise<{ response: IncomingMessage; ids: number[]; text(): string }> {
  const request = httpRequest({ socketPath: socket, path, headers, agent: false }).end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  let text = '';
  const ids: number[] = [];
  response.on('error', () => {});
  response.on('data', (chunk) => {
    text += chunk;
    ids.splice(0, ids.length, ...[...text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id)));
  });
  return { response, ids, text: () => text };
}
