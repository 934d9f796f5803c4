import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { byTls, serve, tokenOf } from './served.ts';

const bearer = (secret: string) => ({ authorization: `Bearer ${secret}` });

test('over the network only a token of the right scope opens a route, and only its hash is kept', async () => {
  const served = await serve({ tls: true });
  const [read, operate, admin] = await Promise.all(
    ['read', 'operate', 'admin'].map((scope) => tokenOf(served, scope)),
  );
  const status = async (method: string, path: string, secret?: string) =>
    (await byTls(served, method, path, secret ? bearer(secret) : {})).status;

  expect(await status('GET', '/livez')).toBe(200);
  expect(await status('GET', '/v1/vms')).toBe(401);
  expect(await status('GET', '/v1/vms', read)).toBe(200);
  expect(await status('POST', '/v1/vms/vm1/park', read)).toBe(403);
  expect(await status('GET', '/v1/tokens', operate)).toBe(403);
  expect(await status('GET', '/v1/tokens', admin)).toBe(200);
  expect(await status('POST', '/v1/vms/vm1/park', operate)).toBe(202);

  const file = join(served.folder, 'tokens.json');
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const kept = readFileSync(file, 'utf8');
  for (const secret of [read, operate, admin]) {
    // The secret part is base64url: it may have underscores of its own.
    expect(kept).not.toContain(secret?.split('_').slice(2).join('_'));
  }
});

test('who is turned away is told why, with a code', async () => {
  const served = await serve({ tls: true });
  const nobody = await byTls(served, 'GET', '/v1/vms');
  expect(nobody).toMatchObject({
    status: 401,
    headers: {
      'content-type': expect.stringContaining('application/problem+json'),
      'www-authenticate': expect.stringContaining('Bearer'),
    },
    body: { code: 'UNAUTHENTICATED' },
  });
  const read = await tokenOf(served, 'read');
  expect(await byTls(served, 'POST', '/v1/vms/vm1/unpark', bearer(read))).toMatchObject({
    status: 403,
    body: { code: 'FORBIDDEN', detail: expect.stringContaining('scope operate') },
  });
});

test('a revoked token opens nothing from that moment on, nor does one after a restart', async () => {
  const served = await serve({ tls: true });
  const [kept, revoked] = [await tokenOf(served, 'read'), await tokenOf(served, 'operate')];
  await served.client.delete('/v1/tokens/for-operate-ever');
  expect((await byTls(served, 'GET', '/v1/vms', bearer(revoked))).status).toBe(401);
  await served.restart();
  expect((await byTls(served, 'GET', '/v1/vms', bearer(kept))).status).toBe(200);
  expect((await byTls(served, 'GET', '/v1/vms', bearer(revoked))).status).toBe(401);
  await expect(served.client.delete('/v1/tokens/for-operate-ever')).rejects.toMatchObject({
    code: 'TOKEN_UNKNOWN',
  });
});

test('who guesses is slowed down: after ten failures even a right token waits', async () => {
  const served = await serve({ tls: true });
  const right = await tokenOf(served, 'read');
  for (let guess = 0; guess < 10; guess += 1) {
    const wrong = `${right.slice(0, -2)}${guess}x`;
    expect((await byTls(served, 'GET', '/v1/vms', bearer(wrong))).status).toBe(401);
  }
  expect(await byTls(served, 'GET', '/v1/vms', bearer(right))).toMatchObject({
    status: 429,
    headers: { 'retry-after': expect.stringMatching(/^[1-9]\d?$/) },
    body: { code: 'RATE_LIMITED' },
  });
  // The socket is another matter.
  expect(await served.client.get('/v1/vms')).toMatchObject({ vms: [{ name: 'vm1' }] });
});
