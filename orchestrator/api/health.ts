/** GET /livez: the process answers. GET /readyz: it can do its work; else 503 with what is wrong. */
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import { nullable } from './schema/common.ts';

export interface Check {
  name: string;
  /** null: all is well. */
  problem: string | null;
}

/** Looks now, and quickly. */
export type Readiness = () => Check[];

const Live = Type.Object({ status: Type.Literal('live') });
const Ready = Type.Object({
  status: Type.Unsafe<'ready' | 'not ready'>({ type: 'string', enum: ['ready', 'not ready'] }),
  checks: Type.Array(Type.Object({ name: Type.String(), problem: nullable(Type.String()) })),
});

export function healthRoutes(app: FastifyInstance, ready: Readiness): void {
  app.get(
    '/livez',
    {
      config: { scope: 'public' },
      schema: {
        tags: ['service'],
        operationId: 'live',
        summary: 'The process answers.',
        response: { 200: Live },
      },
    },
    () => ({ status: 'live' }),
  );
  app.get(
    '/readyz',
    {
      config: { scope: 'public' },
      schema: {
        ...{ tags: ['service'], operationId: 'ready', summary: 'The service can do its work.' },
        response: { 200: Ready, 503: Ready },
      },
    },
    (_request, reply) => {
      const checks = ready();
      const isReady = checks.every(({ problem }) => problem === null);
      return reply.code(isReady ? 200 : 503).send({ status: isReady ? 'ready' : 'not ready', checks });
    },
  );
}
