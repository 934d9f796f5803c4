/** GET /: a page to look at, three files without anything from elsewhere; and GET /v1/caller, by which it knows its scope. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import { SCOPES, type Scope } from './access.ts';

const FOLDER = join(import.meta.dirname, '../page');
const FILES = [
  ['/', 'index.html', 'text/html; charset=utf-8'],
  ['/page.css', 'page.css', 'text/css; charset=utf-8'],
  ['/page.js', 'page.js', 'text/javascript; charset=utf-8'],
  ['/chart.js', 'chart.js', 'text/javascript; charset=utf-8'],
] as const;
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-cache',
};
const Caller = Type.Object({
  name: Type.String({ description: '`socket`, or the token’s id.' }),
  scope: Type.Unsafe<Scope>({ type: 'string', enum: [...SCOPES] }),
});

export function pageRoutes(app: FastifyInstance): void {
  for (const [path, file, type] of FILES) {
    const body = readFileSync(join(FOLDER, file));
    app.get(path, { config: { scope: 'public' }, schema: { hide: true } }, (_request, reply) =>
      reply.headers(HEADERS).type(type).send(body),
    );
  }
  app.get(
    '/v1/caller',
    {
      config: { scope: 'read' },
      schema: {
        ...{ tags: ['service'], operationId: 'getCaller', summary: 'Who calls, and with which scope.' },
        response: { 200: Caller },
      },
    },
    ({ caller }) => caller,
  );
}
