/**
 * Who may call what. Each route names its scope; a route without one is a mistake that stops the start.
 *
 * - On the Unix socket the file’s mode has decided: whoever can open it is an admin.
 * - On TCP a bearer token says who calls; `admin` may do what `operate` may, and that what `read` may.
 * - `public` needs no token. `own` routes see to it themselves (webhooks: signatures, Keystone tokens, certificates).
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { SeamlessError } from '../../common/errors.ts';

export const SCOPES = ['read', 'operate', 'admin'] as const;
export type Scope = (typeof SCOPES)[number];
export type RouteScope = Scope | 'public' | 'own';

export interface Caller {
  /** For the log: `socket`, or the token’s id. */
  name: string;
  scope: Scope;
}

/** Says who calls, or throws `UNAUTHENTICATED` or `RATE_LIMITED`. */
export type Identify = (request: FastifyRequest) => Caller;

export const socketCaller: Identify = () => ({ name: 'socket', scope: 'admin' });

declare module 'fastify' {
  interface FastifyContextConfig {
    scope?: RouteScope;
  }
  interface FastifyRequest {
    caller: Caller | null;
  }
}

export function guard(app: FastifyInstance, identify: Identify): void {
  app.decorateRequest('caller', null);
  app.addHook('onRoute', ({ method, url, config, schema }) => {
    const scope = config?.scope;
    if (!scope) throw new SeamlessError('INTERNAL', `Expected a scope on the route ${method} ${url}`);
    if (schema) Object.assign(schema, { 'x-scope': scope });
  });
  app.addHook('onRequest', async (request) => {
    const needed = request.routeOptions.config.scope;
    if (request.is404 || needed === 'public' || needed === 'own' || !needed) return;
    const caller = identify(request);
    if (SCOPES.indexOf(caller.scope) < SCOPES.indexOf(needed)) {
      throw new SeamlessError(
        'FORBIDDEN',
        `Expected a token of scope ${needed} for ${request.method} ${request.routeOptions.url}, got one of scope ${caller.scope}`,
      );
    }
    request.caller = caller;
  });
}
