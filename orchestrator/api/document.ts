/** The OpenAPI document, made from the routes’ own schemas; served at /v1/openapi.json and checked in as docs/openapi.json. */
import swagger from '@fastify/swagger';
import type { FastifyInstance } from 'fastify';
import { named } from './schema/common.ts';
import { ProblemSchema } from './schema/problem.ts';

/** Of the API, not of the program: it changes when a client must. */
const API_VERSION = '1.0.0';

const TAGS = {
  vms: 'The virtual machines, and what is done to them.',
  operations: 'Parks and unparks, as the journal has them.',
  events: 'What happens, as it happens.',
  inventory: 'Hosts, sink servers, templates, policy.',
  service: 'The service itself.',
  webhooks: 'Called by others.',
} as const;
export type Tag = keyof typeof TAGS;

export async function describeRoutes(app: FastifyInstance): Promise<void> {
  app.addSchema(ProblemSchema);
  // Every route may fail, and always in the same form.
  app.addHook('onRoute', ({ schema, config }) => {
    if (!schema || schema.hide) return;
    const response = (schema.response ?? {}) as Record<string, unknown>;
    response.default ??= {
      description: 'A problem: what was expected, what was got, and what to do.',
      content: { 'application/problem+json': { schema: named(ProblemSchema) } },
    };
    const needsToken = config?.scope !== 'public' && config?.scope !== 'own';
    Object.assign(schema, { response, security: needsToken ? [{ bearer: [] }] : [] });
  });
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'SEaMLESS',
        version: API_VERSION,
        description:
          'Parks idle virtual machines and wakes them when they are needed. docs/api.md says more.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      servers: [{ url: '/', description: 'The orchestrator: by its Unix socket, or by TLS.' }],
      tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
      components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } } },
    },
    refResolver: {
      buildLocalReference: ({ $id }, _uri, _fragment, index) => String($id ?? `schema${index}`),
    },
  });
  app.get('/v1/openapi.json', { config: { scope: 'public' }, schema: { hide: true } }, () => app.swagger());
}
