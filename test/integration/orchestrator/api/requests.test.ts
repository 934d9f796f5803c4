import { request as httpRequest } from 'node:http';
import { expect, test } from 'vitest';
import { type Answer, type Served, serve } from './served.ts';

test('pages by cursor give every VM once, in order, and filters hold over all of them', async () => {
  const names = Array.from({ length: 23 }, (_, index) => `vm${String(index).padStart(2, '0')}`);
  const served = await serve({
    vms: Object.fromEntries(
      names.map((name, index) => [
        name,
        { labels: index % 2 ? { tier: 'web', 'a=b': 'c' } : { tier: 'db' } },
      ]),
    ),
  });
  const seen: string[] = [];
  for (let path: string | null = '/v1/vms?limit=10'; path !== null; ) {
    const { vms, next }: { vms: { name: string }[]; next: string | null } = await served.client.get(path);
    seen.push(...vms.map(({ name }) => name));
    path = next === null ? null : `/v1/vms?limit=10&cursor=${next}`;
  }
  expect(seen).toEqual(names);

  await park(served, 'vm03');
  const some = async (query: string) =>
    (await served.client.get<{ vms: { name: string }[] }>(`/v1/vms?${query}`)).vms.map(({ name }) => name);
  expect(await some('state=parked')).toEqual(['vm03']);
  expect(await some('state=parked&state=awake')).toHaveLength(23);
  expect(await some('label=tier=db')).toEqual(names.filter((_, index) => index % 2 === 0));
  expect(await some('label=tier&state=parked')).toEqual(['vm03']);
  await expect(served.client.get('/v1/vms?cursor=nonsense')).rejects.toMatchObject({
    code: 'REQUEST_INVALID',
  });
});

test('operations come newest first, page by page', async () => {
  const served = await serve();
  for (let round = 0; round < 3; round += 1) {
    await park(served, 'vm1');
    await served.client.post('/v1/vms/vm1/unpark');
    await served.vms.get('vm1')?.driver.idle();
  }
  const first = await served.client.get<{ operations: { kind: string }[]; next: string }>(
    '/v1/operations?limit=4',
  );
  const second = await served.client.get<{ operations: { kind: string }[]; next: null }>(
    `/v1/operations?vm=vm1&limit=4&cursor=${first.next}`,
  );
  expect([...first.operations, ...second.operations].map(({ kind }) => kind)).toEqual([
    'unpark',
    'park',
    'unpark',
    'park',
    'unpark',
    'park',
  ]);
  expect(second.next).toBeNull();
});

test('a request that is repeated under its key is not carried out again, not even after a restart', async () => {
  const served = await serve();
  const key = { 'idempotency-key': 'alarm-17' };
  const first = await raw(served, 'POST', '/v1/vms/vm1/park', { headers: key });
  expect(first).toMatchObject({
    status: 202,
    headers: { location: expect.stringMatching(/^\/v1\/operations\/park-vm1-/) },
  });
  await served.vms.get('vm1')?.driver.idle();
  await served.client.post('/v1/vms/vm1/unpark');
  await served.vms.get('vm1')?.driver.idle();

  const again = await raw(served, 'POST', '/v1/vms/vm1/park', { headers: key });
  expect(again.headers.location).toBe(first.headers.location);
  await served.restart();
  const later = await raw(served, 'POST', '/v1/vms/vm1/park', { headers: key });
  expect(later).toMatchObject({ status: 202, headers: { location: first.headers.location } });
  expect(served.vms.get('vm1')?.driver.state.kind).toBe('awake');

  expect(await raw(served, 'POST', '/v1/vms/vm1/unpark', { headers: key })).toMatchObject({
    status: 422,
    body: { code: 'IDEMPOTENCY_CONFLICT' },
  });
});

test('a refusal is not kept under its key: the next try may be accepted', async () => {
  const served = await serve();
  const { unreachable } = served.vms.get('vm1') ?? expect.unreachable();
  unreachable.vm = { host: 'hv', since: '2026-11-21T03:00:00.000Z', reason: 'gone', next: 'Look.' };
  const key = { 'idempotency-key': 'k' };
  expect(await raw(served, 'POST', '/v1/vms/vm1/park', { headers: key })).toMatchObject({
    body: { code: 'HOST_UNREACHABLE' },
  });
  unreachable.vm = null;
  expect((await raw(served, 'POST', '/v1/vms/vm1/park', { headers: key })).status).toBe(202);
});

test('two at once under one key are one operation', async () => {
  const served = await serve();
  const headers = { 'idempotency-key': 'twice' };
  const [one, two] = await Promise.all(
    [1, 2].map(() => raw(served, 'POST', '/v1/vms/vm1/park', { headers })),
  );
  expect(one?.headers.location).toBe(two?.headers.location);
  expect((await served.client.get<{ operations: unknown[] }>('/v1/operations')).operations).toHaveLength(1);
});

test.each([
  ['malformed JSON', 'POST', '/v1/vms/vm1/unpark', '{"force":', 400, 'REQUEST_INVALID'],
  [
    'an oversize body',
    'POST',
    '/v1/vms/vm1/unpark',
    `{"force":"${'x'.repeat(300_000)}"}`,
    413,
    'BODY_TOO_LARGE',
  ],
  ['an unknown key', 'POST', '/v1/vms/vm1/unpark', '{"froce":true}', 400, 'REQUEST_INVALID'],
  ['an unknown VM', 'POST', '/v1/vms/nosuch/park', undefined, 404, 'VM_UNKNOWN'],
  ['an unknown host', 'GET', '/v1/hosts/nosuch', undefined, 404, 'HOST_UNKNOWN'],
  ['an unknown route', 'GET', '/v1/nosuch', undefined, 404, 'ROUTE_UNKNOWN'],
  ['a route with another method', 'PUT', '/v1/vms', undefined, 404, 'ROUTE_UNKNOWN'],
  ['a limit out of range', 'GET', '/v1/vms?limit=0', undefined, 400, 'REQUEST_INVALID'],
  ['an unknown state', 'GET', '/v1/vms?state=asleep', undefined, 400, 'REQUEST_INVALID'],
  ['an odd path', 'GET', '/v1/vms/%ff', undefined, 400, 'REQUEST_INVALID'],
  ['an odd Last-Event-ID', 'GET', '/v1/events?vm=&after=x', undefined, 400, 'REQUEST_INVALID'],
])('%s is a problem document with a code', async (_what, method, path, body, status, code) => {
  const served = await serve();
  const headers: Record<string, string> = body ? { 'content-type': 'application/json' } : {};
  const answer = await raw(served, method, path, { headers, body });
  expect(answer).toMatchObject({
    status,
    headers: { 'content-type': expect.stringMatching(/^application\/problem\+json/) },
    body: {
      code,
      status,
      type: `urn:seamless:error:${code}`,
      detail: expect.any(String),
      next: expect.any(String),
    },
  });
  expect(served.vms.get('vm1')?.driver.state.kind).toBe('awake');
});

test('what is wrong with a request is said by its place', async () => {
  const served = await serve();
  const headers = { 'content-type': 'application/json' };
  const { body } = await raw(served, 'POST', '/v1/vms/vm1/unpark', { headers, body: '{"froce":true}' });
  expect(body.detail).toContain('“froce”');
});

async function park({ client, vms }: Served, name: string): Promise<void> {
  await client.post(`/v1/vms/${name}/park`);
  await vms.get(name)?.driver.idle();
}

function raw(
  { socket }: Served,
  method: string,
  path: string,
  { headers = {}, body }: { headers?: Record<string, string>; body?: string | undefined } = {},
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const request = httpRequest({ socketPath: socket, method, path, headers, agent: false });
  request.once('error', reject);
  request.once('response', async (response) => {
    let text = '';
    for await (const chunk of response) text += chunk;
    resolve({ status: response.statusCode ?? 0, headers: response.headers, body: JSON.parse(text) });
  });
  request.end(body);
  return promise;
}
