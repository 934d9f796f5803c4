/** The OpenAPI document is valid, is what the service serves, and a client generated from it works (docs/api.md). */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Validator } from '@seriousme/openapi-schema-validator';
import createClient from 'openapi-fetch';
import { expect, test } from 'vitest';
import type { paths } from '../../../fixtures/openapi.ts';
import { fetchByTls, serve, tokenOf } from './served.ts';

const DOCUMENT = join(import.meta.dirname, '../../../../docs/openapi.json');
const CLIENT = join(import.meta.dirname, '../../../fixtures/openapi.ts');

test('docs/openapi.json is the document that the service serves (`vitest -u` writes it anew)', async () => {
  const { client } = await serve();
  const served = await client.get('/v1/openapi.json');
  await expect(`${JSON.stringify(served, null, 2)}\n`).toMatchFileSnapshot(DOCUMENT);
});

test('the document is valid OpenAPI 3.1', async () => {
  const document = JSON.parse(readFileSync(DOCUMENT, 'utf8'));
  expect(await new Validator().validate(document)).toMatchObject({ valid: true });
  expect(document.openapi).toBe('3.1.0');
});

test('the types of the generated client are those of the document as it is (`scripts/openapi-client` writes them anew)', () => {
  const [said] = readFileSync(CLIENT, 'utf8').split('\n');
  const digest = createHash('sha256').update(readFileSync(DOCUMENT)).digest('hex');
  expect(said).toBe(`// Of docs/openapi.json with SHA-256 ${digest}`);
});

test('a client generated from the document parks and wakes a VM, and gets errors by their type', async () => {
  const served = await serve({ tls: true });
  const token = await tokenOf(served, 'operate');
  const client = createClient<paths>({
    baseUrl: `https://127.0.0.1:${served.api.address?.port}`,
    fetch: fetchByTls(served),
    headers: { authorization: `Bearer ${token}` },
  });
  const { data: page } = await client.GET('/v1/vms', { params: { query: { state: ['awake'], limit: 10 } } });
  expect(page?.vms.map(({ name }) => name)).toEqual(['vm1']);

  const path = { name: 'vm1' };
  const header = { 'idempotency-key': 'generated' };
  const { data: parking } = await client.POST('/v1/vms/{name}/park', { params: { path, header } });
  const id = parking?.operation?.id ?? expect.unreachable();
  await served.vms.get('vm1')?.driver.idle();
  const { data: operation } = await client.GET('/v1/operations/{id}', { params: { path: { id } } });
  expect(operation).toMatchObject({ kind: 'park', status: 'succeeded' });
  await client.POST('/v1/vms/{name}/unpark', { params: { path }, body: { force: false } });
  await served.vms.get('vm1')?.driver.idle();
  const { data: vm } = await client.GET('/v1/vms/{name}', { params: { path } });
  expect(vm).toMatchObject({ state: 'awake', lastUnpark: { cause: 'manual' } });

  const { error, response } = await client.GET('/v1/vms/{name}', { params: { path: { name: 'nosuch' } } });
  expect(response.status).toBe(404);
  expect(error?.code).toBe('VM_UNKNOWN');
});
