/** Typed calls over real TLS: who is answered, what an error looks like, what happens to a dead or silent agent. */
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SeamlessError } from '../../../common/errors.ts';
import { exec } from '../../../common/exec.ts';
import { silentLog } from '../../../common/log.ts';
import { createRpcClient } from '../../../wire/rpc-client.ts';
import { startRpcServer } from '../../../wire/rpc-server.ts';
import { loadTls } from '../../../wire/tls.ts';

interface TestApi {
  add: { params: { a: number; b: number }; result: { sum: number } };
  refuse: { params: object; result: object };
  hang: { params: object; result: object };
}
type Tick = { tick: number };

let folder: string;
let server: Awaited<ReturnType<typeof startRpcServer>>;
const listeners = new Set<(event: Tick) => void>();
const aborted: string[] = [];
let connections = 0;

const tlsOf = (name: string, ca = 'ca') =>
  loadTls({
    ca: join(folder, `${ca}.crt`),
    cert: join(folder, `${name}.crt`),
    key: join(folder, `${name}.key`),
  });

const clientOf = (name: string, peer = 'vm-agent:vm1') =>
  createRpcClient<TestApi, Tick>({ address: '127.0.0.1', port: server.port, tls: tlsOf(name), peer });

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'seamless-rpc-'));
  await makeCa('ca');
  await makeCa('other-ca');
  await issue('server', 'vm-agent:vm1', 'ca');
  await issue('orchestrator', 'orchestrator', 'ca');
  await issue('guest', 'vm-agent:vm2', 'ca');
  await issue('stranger', 'orchestrator', 'other-ca');
  server = await startRpcServer<TestApi, Tick>({
    listen: { address: '127.0.0.1', port: 0 },
    tls: tlsOf('server'),
    allow: (peer) => peer === 'orchestrator',
    log: silentLog,
    handlers: {
      add: async ({ a, b }) => ({ sum: a + b }),
      refuse: async () => {
        throw new SeamlessError('VM_UNPARKABLE', 'no', { details: { because: 'test' } });
      },
      hang: (_params, { signal }) =>
        new Promise((_resolve, reject) =>
          signal.addEventListener('abort', () => {
            aborted.push('hang');
            reject(new Error('gone'));
          }),
        ),
    },
    images: {
      send: async (id, out) => {
        out.writeHead(200).end(`image ${id}`);
      },
      receive: async (_id, body) => ({ bytes: (await buffer(body)).length }),
    },
    events: {
      subscribe: (listener) => {
        listeners.add(listener);
        listener({ tick: 0 });
        return () => listeners.delete(listener);
      },
    },
  });
  server.server.on('secureConnection', () => connections++);
});

afterAll(async () => {
  await server?.close();
  await rm(folder, { recursive: true, force: true });
});

test('a call is answered with its result, over one kept connection', async () => {
  const client = clientOf('orchestrator');
  const before = connections;
  for (let n = 0; n < 20; n++) expect(await client.call('add', { a: n, b: 1 })).toEqual({ sum: n + 1 });
  expect(connections - before).toBe(1);
  client.close();
});

test('an error arrives with its code, message and details', async () => {
  const client = clientOf('orchestrator');
  await expect(client.call('refuse', {})).rejects.toMatchObject({
    code: 'VM_UNPARKABLE',
    message: 'no',
    details: { because: 'test' },
  });
  await expect(client.call('unheard' as 'add', { a: 1, b: 2 })).rejects.toMatchObject({
    code: 'REQUEST_INVALID',
  });
  client.close();
});

test('a certificate of ours with another name gets no answer', async () => {
  const client = clientOf('guest');
  await expect(client.call('add', { a: 1, b: 2 })).rejects.toMatchObject({ code: 'AGENT_REFUSED' });
  client.close();
});

test('a certificate of another CA does not get through the handshake', async () => {
  const client = createRpcClient<TestApi>({
    address: '127.0.0.1',
    port: server.port,
    tls: { ...tlsOf('stranger'), ca: tlsOf('orchestrator').ca },
    peer: 'vm-agent:vm1',
  });
  await expect(client.call('add', { a: 1, b: 2 })).rejects.toMatchObject({ code: 'AGENT_UNREACHABLE' });
  client.close();
});

test('an agent that proves another name is not talked to', async () => {
  const client = clientOf('orchestrator', 'vm-agent:vm9');
  await expect(client.call('add', { a: 1, b: 2 })).rejects.toMatchObject({
    code: 'AGENT_UNREACHABLE',
    message: expect.stringContaining('Expected a certificate of vm-agent:vm9, got one of vm-agent:vm1'),
  });
  client.close();
});

test('plain text on the port is refused and the server goes on', async () => {
  const socket = connect(server.port, '127.0.0.1', () => socket.end('GET /events HTTP/1.1\r\n\r\n'));
  socket.on('error', () => {});
  await text(socket).catch(() => {});
  const client = clientOf('orchestrator');
  expect(await client.call('add', { a: 1, b: 2 })).toEqual({ sum: 3 });
  client.close();
});

test('a call that takes too long is a TIMEOUT, and the agent sees the caller leave', async () => {
  const client = clientOf('orchestrator');
  await client.call('add', { a: 1, b: 1 }); // A handshake may take longer than this call may.
  await expect(client.call('hang', {}, { timeoutMs: 50 })).rejects.toMatchObject({ code: 'TIMEOUT' });
  await expect.poll(() => aborted).toEqual(['hang']);
  client.close();
});

test('an aborted call is ABORTED', async () => {
  const client = clientOf('orchestrator');
  const abort = new AbortController();
  const call = client.call('hang', {}, { signal: abort.signal });
  abort.abort();
  await expect(call).rejects.toMatchObject({ code: 'ABORTED' });
  client.close();
});

test('nobody listening is AGENT_UNREACHABLE with the reason', async () => {
  const client = createRpcClient<TestApi>({
    address: '127.0.0.1',
    port: 1,
    tls: tlsOf('orchestrator'),
    peer: 'x',
  });
  await expect(client.call('add', { a: 1, b: 2 })).rejects.toMatchObject({
    code: 'AGENT_UNREACHABLE',
    message: expect.stringContaining('ECONNREFUSED'),
  });
  client.close();
});

test('events come as they happen, the present state first', async () => {
  const client = clientOf('orchestrator');
  const stop = new AbortController();
  const got: Tick[] = [];
  const following = client.events((event) => got.push(event), stop.signal);
  await expect.poll(() => got).toEqual([{ tick: 0 }]);
  for (const listener of listeners) listener({ tick: 1 });
  await expect.poll(() => got).toEqual([{ tick: 0 }, { tick: 1 }]);
  stop.abort();
  await following;
  await expect.poll(() => listeners.size).toBe(0);
  client.close();
});

test('images go both ways', async () => {
  const client = clientOf('orchestrator');
  expect(await text(await client.getImage('a b'))).toBe('image a b');
  const sent = await client.putImage('x', async (out) => void out.end(Buffer.alloc(100_000)));
  expect(sent).toEqual({ bytes: 100_000 });
  client.close();
});

async function makeCa(name: string): Promise<void> {
  const files = ['-keyout', join(folder, `${name}.key`), '-out', join(folder, `${name}.crt`)];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  await exec(['openssl', 'req', '-x509', ...key, '-subj', `/CN=${name}`, '-days', '1', ...files]);
}

async function issue(file: string, commonName: string, ca: string): Promise<void> {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const signer = ['-CA', join(folder, `${ca}.crt`), '-CAkey', join(folder, `${ca}.key`)];
  const files = ['-keyout', join(folder, `${file}.key`), '-out', join(folder, `${file}.crt`)];
  await exec([
    'openssl',
    'req',
    '-x509',
    ...key,
    '-subj',
    `/CN=${commonName}`,
    ...signer,
    '-days',
    '1',
    ...files,
  ]);
}
