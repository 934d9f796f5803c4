/**
 * GET /v1/operations/:id and GET /v1/events: the journal as server-sent events. An event’s id is its journal number,
 * so that `Last-Event-ID` (or `?after=`) resumes without a gap; without either the stream begins now.
 */
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import { type ErrorBody, SeamlessError } from '../../common/errors.ts';
import type { Journal, JournalRecord } from '../saga/journal.ts';
import { operationOf } from '../vm/operation.ts';
import type { VmState, Wake } from '../vm/state.ts';
import { wakeLine } from '../vm/wake.ts';
import { verdictLine } from '../vm/wake-report.ts';

/** One event: a change of a VM’s state, of an operation or of one step of it, a wake and its verdict, its QEMU. */
export interface ApiEvent {
  id: number;
  time: string;
  vm: string;
  type: 'vm' | 'operation' | 'step' | 'wake' | 'hypervisor';
  /** For `vm` the new state, for `wake` its cause or `judged`, else what happened. */
  event: string;
  operation: string | null;
  step: string | null;
  ms: number | null;
  error: ErrorBody | null;
  /** One readable line, where there is more to say. */
  detail: string | null;
  /** All fields of a wake, or of what became of it. */
  wake: Wake | { verdict: string; because: string[]; cause: string; rule: string | null } | null;
}

const OperationParams = Type.Object({ id: Type.String({ minLength: 1, maxLength: 200 }) });
const EventsQuery = Type.Object(
  {
    vm: Type.Optional(Type.String()),
    after: Type.Optional(Type.Integer({ minimum: 0, description: 'Begin after this event.' })),
    steps: Type.Optional(Type.Boolean({ default: true, description: 'Each step of each operation.' })),
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
      const { vm, after, steps = true, follow = true } = request.query;
      const lastId = Number(request.headers['last-event-id'] ?? after ?? journal.lastSeq());
      reply.hijack();
      const { raw } = reply;
      raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
      raw.flushHeaders();
      const show = (record: JournalRecord) => {
        const event = eventOf(record);
        if (event && (steps || event.type !== 'step')) raw.write(frameOf(event));
      };
      // All in one turn of the event loop: nothing can be appended between the history and the subscription.
      for (let page = Number.isSafeInteger(lastId) ? lastId : 0; ; ) {
        const records = journal.after(page, { vm, limit: PAGE });
        for (const record of records) show(record);
        if (records.length < PAGE) break;
        page = records.at(-1)?.seq ?? page;
      }
      if (!follow) return raw.end();
      const unsubscribe = journal.subscribe((record) => {
        if (vm === undefined || record.vm === vm) show(record);
      });
      const beat = setInterval(() => raw.write(':\n\n'), BEAT_MS);
      raw.once('close', () => {
        clearInterval(beat);
        unsubscribe();
      });
    },
  );
}

function frameOf(event: ApiEvent): string {
  return `id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
}

/** @returns null for what is the service's own note */
export function eventOf(record: JournalRecord): ApiEvent | null {
  const { seq, atMs, vm, saga, step, event, body } = record;
  const common = {
    id: seq,
    time: new Date(atMs).toISOString(),
    vm,
    operation: saga,
    step,
    ms: typeof body.ms === 'number' ? Math.round(body.ms * 10) / 10 : null,
    error: (body.error as ErrorBody | undefined) ?? null,
    detail: null,
    wake: null,
  };
  switch (event) {
    case 'vmState': {
      const state = body.state as VmState;
      const operation = 'operation' in state ? state.operation : null;
      const detail = state.kind === 'stuck' ? `${state.error.message} ${state.next}` : null;
      return { ...common, type: 'vm', event: state.kind, operation, detail };
    }
    case 'wake': {
      const { operation, ...rest } = body;
      const wake = rest as unknown as Wake;
      // Without an operation it has to wait: for the end of a park, a retry, a hypervisor.
      const detail = operation === null ? wakeLine(wake).replace(/^woken/, 'wanted') : wakeLine(wake);
      return { ...common, type: 'wake', event: wake.cause, operation: operation as string, detail, wake };
    }
    case 'wakeWatched':
      return null;
    case 'wakeJudged': {
      const wake = body as { verdict: string; because: string[]; cause: string; rule: string | null };
      return { ...common, type: 'wake', event: 'judged', detail: verdictLine(wake), wake };
    }
    case 'hypervisor': {
      const said =
        body.state === 'lost' ? `its QEMU has gone: ${body.reason}. ${body.next}` : 'its QEMU is back';
      return { ...common, type: 'hypervisor', event: String(body.state), detail: said };
    }
    case 'sagaCreated':
      return { ...common, type: 'operation', event: 'started' };
    case 'sagaResumed':
      return { ...common, type: 'operation', event: 'resumed' };
    case 'sagaEnded':
      return { ...common, type: 'operation', event: String(body.kind) };
    default:
      return { ...common, type: 'step', event };
  }
}
