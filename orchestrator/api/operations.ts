/** GET /v1/operations (newest first) and GET /v1/operations/:id */
import type { FastifyInstance } from 'fastify';
import type Type from 'typebox';
import { SeamlessError } from '../../common/errors.ts';
import type { Journal } from '../saga/journal.ts';
import { operationOf } from '../vm/operation.ts';
import { cursorOf, keyOf } from './pages.ts';
import { named } from './schema/common.ts';
import { OperationParams, OperationSchema, OperationsPage, OperationsQuery } from './schema/operation.ts';

export function operationRoutes(app: FastifyInstance, journal: Journal): void {
  app.addSchema(OperationSchema);
  app.get<{ Querystring: Type.Static<typeof OperationsQuery> }>(
    '/v1/operations',
    {
      config: { scope: 'read' },
      schema: {
        ...{ tags: ['operations'], operationId: 'listOperations', summary: 'Operations, newest first.' },
        ...{ querystring: OperationsQuery, response: { 200: OperationsPage } },
      },
    },
    ({ query: { vm, limit = 100, cursor } }) => {
      const before = cursor === undefined ? Number.MAX_SAFE_INTEGER : keyOf(cursor, 'number');
      const created = journal.sagas({ vm, before, limit });
      const operations = created.flatMap(({ saga }) => operationOf(journal.ofSaga(saga ?? '')) ?? []);
      const last = created.at(-1);
      return { operations, next: last && created.length === limit ? cursorOf(last.seq) : null };
    },
  );
  app.get<{ Params: Type.Static<typeof OperationParams> }>(
    '/v1/operations/:id',
    {
      config: { scope: 'read' },
      schema: {
        ...{ tags: ['operations'], operationId: 'getOperation', summary: 'One operation and its steps.' },
        ...{ params: OperationParams, response: { 200: named(OperationSchema) } },
      },
    },
    ({ params }) => {
      const operation = operationOf(journal.ofSaga(params.id));
      if (operation) return operation;
      throw new SeamlessError('OPERATION_UNKNOWN', `Expected the id of an operation, got “${params.id}”`);
    },
  );
}
