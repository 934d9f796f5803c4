/** docs/api.md has a line for each route, with its scope, and for each metric, with its labels; and no other. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { serve } from './served.ts';

const PAGE = readFileSync(join(import.meta.dirname, '../../../../docs/api.md'), 'utf8');

interface Document {
  paths: Record<string, Record<string, { 'x-scope': string; operationId: string; security: unknown[] }>>;
}

test('docs/api.md has a line for each route, with its scope', async () => {
  const { client } = await serve();
  const { paths } = await client.get<Document>('/v1/openapi.json');
  const served = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { 'x-scope': scope }]) => [
      `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`,
      scope,
    ]),
  );
  const documented = [...PAGE.matchAll(/^\| `([A-Z]+ \/\S*)` \| (\w+) \|/gm)].map(([, route, scope]) => [
    route,
    scope,
  ]);
  expect(documented.toSorted()).toEqual(served.toSorted());
});

test('every route has an id of its own, and asks for a token unless it says otherwise', async () => {
  const { client } = await serve();
  const { paths } = await client.get<Document>('/v1/openapi.json');
  const operations = Object.values(paths).flatMap((methods) => Object.values(methods));
  expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(operations.length);
  for (const { 'x-scope': scope, security } of operations) {
    expect(security).toEqual(['public', 'own'].includes(scope) ? [] : [{ bearer: [] }]);
  }
});

test('docs/api.md has a line for each metric', async () => {
  const { client } = await serve();
  const text = await client.text('/metrics');
  const served = [...text.matchAll(/^# TYPE (seamless_\w+) /gm)].map(([, name]) => name);
  const documented = [...PAGE.matchAll(/^\| `(seamless_\w+)` \|/gm)].map(([, name]) => name);
  expect(documented.toSorted()).toEqual(served.toSorted());
});
