/** GET /metrics, as Prometheus reads it. */
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import type { Metrics } from '../metrics/metrics.ts';

export function metricsRoute(app: FastifyInstance, metrics: Pick<Metrics, 'contentType' | 'text'>): void {
  app.get(
    '/metrics',
    {
      config: { scope: 'read' },
      schema: {
        ...{ tags: ['service'], operationId: 'metrics', summary: 'Metrics in Prometheus’ text format.' },
        response: {
          200: { description: 'See docs/api.md.', content: { 'text/plain': { schema: Type.String() } } },
        },
      },
    },
    async (_request, reply) => reply.type(metrics.contentType).send(await metrics.text()),
  );
}
