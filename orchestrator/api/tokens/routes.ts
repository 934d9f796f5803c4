/** POST, GET /v1/tokens and DELETE /v1/tokens/:token, for admins. */
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import type { Log } from '../../../common/log.ts';
import { SCOPES, type Scope } from '../access.ts';
import { named, strict } from '../schema/common.ts';
import { TokenSchema, type TokenStore } from './store.ts';

const NewTokenBody = Type.Object(
  {
    name: Type.String({
      pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$',
      description: 'For people; each only once.',
    }),
    scope: Type.Unsafe<Scope>({ type: 'string', enum: [...SCOPES] }),
    days: Type.Optional(Type.Integer({ minimum: 1, maximum: 3650, description: 'For ever unless told.' })),
  },
  strict,
);
const Created = Type.Object({
  token: named(TokenSchema),
  secret: Type.String({ description: 'Shown this once; only its hash is kept.' }),
});
const TokenParams = Type.Object({
  token: Type.String({ minLength: 1, maxLength: 64, description: 'Its id or name.' }),
});

export function tokenRoutes(app: FastifyInstance, tokens: TokenStore, log: Log): void {
  app.addSchema(TokenSchema);
  const config = { scope: 'admin' as const };
  app.post<{ Body: Type.Static<typeof NewTokenBody> }>(
    '/v1/tokens',
    {
      config,
      schema: {
        ...{ tags: ['service'], operationId: 'createToken', summary: 'Make a token.', body: NewTokenBody },
        response: { 201: Created },
      },
    },
    ({ body, caller }, reply) => {
      const created = tokens.create(body);
      log.info('token.created', { by: caller?.name, token: created.token.id, scope: body.scope });
      return reply.code(201).send(created);
    },
  );
  app.get(
    '/v1/tokens',
    {
      config,
      schema: {
        ...{ tags: ['service'], operationId: 'listTokens', summary: 'The tokens, without their secrets.' },
        response: { 200: Type.Object({ tokens: Type.Array(named(TokenSchema)) }) },
      },
    },
    () => ({ tokens: tokens.list() }),
  );
  app.delete<{ Params: Type.Static<typeof TokenParams> }>(
    '/v1/tokens/:token',
    {
      config,
      schema: {
        ...{ tags: ['service'], operationId: 'revokeToken', summary: 'Revoke a token, at once.' },
        ...{ params: TokenParams, response: { 200: named(TokenSchema) } },
      },
    },
    ({ params, caller }) => {
      const revoked = tokens.revoke(params.token);
      log.info('token.revoked', { by: caller?.name, token: revoked.id });
      return revoked;
    },
  );
}
