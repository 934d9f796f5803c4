/**
 * GET /v1/operations/:id and GET /v1/events: the journal as server-sent events. An event’s id is its journal number,
 * so that `Last-Event-ID` (or `?after=`) resumes without a gap; without either the stream begins now.
 */
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import { type ErrorBody, SeamlessError } from '../../common/errors.ts';
import type { Journal, JournalRecord } from '../saga/journal.ts';
import { operationOf } from '../vm/operation.ts';
import type { VmState } from '../vm/state.ts';

/** One event: a change of a VM’s state, of an operation, or of one step of it. */
export interface ApiEvent {
  id: number;
  time: string;
  vm: string;
  type: 'vm' | 'operation' | 'step';
  /** For `vm` the new state, else what happened. */
  event: string;
  operation: string | null;
  step: string | null;
  ms: number | null;
  error: ErrorBody | null;
}

const OperationParams = Type.Object({ id: Type.String({ minLength: 1, maxLength: 200 }) });
const EventsQuery = Type.Object(
  {
    vm: Type.Optional(Type.String()),
    after: Type.Optional(Type.Integer({ minimum: 0, description: 'Begin after this event.' })),
    follow: Type.Optional(Type.Boolean({ default: true, description: 'Stay for what comes.' })),
  },
  { additionalProperties: false },
);
const PAGE = 500;
const BEAT_MS = 15_000;

export function eventRoutes(api: FastifyInstance, journal: Journal): void {
  api.get<{ Params: Type.Static<typeof OperationParams> }>(
    '/v1/operations/:id',
    { schema: { params: OperationParams } },
    ({ params }) => {
      const operation = operationOf(journal.ofSaga(params.id));
      if (operation) return operation;
      throw new SeamlessError('OPERATION_UNKNOWN', `Expected the id of an operation, got “${params.id}”`);
    },
  );

  api.get<{ Querystring: Type.Static<typeof EventsQuery> }>(
    '/v1/events',
    { schema: { querystring: EventsQuery } },
    (request, reply) => {
      const { vm, after, follow = true } = request.query;
      const lastId = Number(request.headers['last-event-id'] ?? after ?? journal.lastSeq());
      reply.hijack();
      const { raw } = reply;
      raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
      raw.flushHeaders();
      // All in one turn of the event loop: nothing can be appended between the history and the subscription.
      for (let page = Number.isSafeInteger(lastId) ? lastId : 0; ; ) {
        const records = journal.after(page, { vm, limit: PAGE });
        for (const record of records) raw.write(frameOf(record));
        if (records.length < PAGE) break;
        page = records.at(-1)?.seq ?? page;
      }
      if (!follow) return raw.end();
      const unsubscribe = journal.subscribe((record) => {
        if (vm === undefined || record.vm === vm) raw.write(frameOf(record));
      });
      const beat = setInterval(() => raw.write(':\n\n'), BEAT_MS);
      raw.once('close', () => {
        clearInterval(beat);
        unsubscribe();
      });
    },
  );
}

function frameOf(record: JournalRecord): string {
  const event = eventOf(record);
  return `id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
}

export function eventOf({ seq, atMs, vm, saga, step, event, body }: JournalRecord): ApiEvent {
  const common = {
    id: seq,
    time: new Date(atMs).toISOString(),
    vm,
    operation: saga,
    step,
    ms: typeof body.ms === 'number' ? Math.round(body.ms * 10) / 10 : null,
    error: (body.error as ErrorBody | undefined) ?? null,
  };
  if (event === 'vmState') {
    const state = body.state as VmState;
    const operation = 'operation' in state ? state.operation : null;
    return { ...common, type: 'vm', event: state.kind, operation };
  }
  if (step !== null) return { ...common, type: 'step', event };
  const happened = { sagaCreated: 'started', sagaResumed: 'resumed', sagaEnded: String(body.kind) };
  return { ...common, type: 'operation', event: happened[event as keyof typeof happened] ?? event };
}
