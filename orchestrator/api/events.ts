/**
 * GET /v1/events: the journal as server-sent events. An event’s id is its journal number, so that `Last-Event-ID` (or
 * `?after=`) resumes without a gap; without either the stream begins now.
 */
import type { FastifyInstance } from 'fastify';
import type Type from 'typebox';
import type { ErrorBody } from '../../common/errors.ts';
import type { Journal, JournalRecord } from '../saga/journal.ts';
import { type OutsideChange, outsideLine } from '../vm/outside-change.ts';
import type { ParkCause, VmState, Wake } from '../vm/state.ts';
import { wakeLine } from '../vm/wake.ts';
import { verdictLine } from '../vm/wake-report.ts';
import { EventFan } from './event-stream.ts';
import { named } from './schema/common.ts';
import { EventSchema, EventsHeaders, EventsQuery } from './schema/event.ts';

export type ApiEvent = Type.Static<typeof EventSchema>;

interface EventsRequest {
  Querystring: Type.Static<typeof EventsQuery>;
  Headers: Type.Static<typeof EventsHeaders>;
}

export function eventRoutes(app: FastifyInstance, journal: Journal): void {
  app.addSchema(EventSchema);
  const fan = new EventFan(journal, frameOf);
  app.addHook('preClose', async () => fan.close());
  app.get<EventsRequest>(
    '/v1/events',
    {
      config: { scope: 'read' },
      schema: {
        ...{ tags: ['events'], operationId: 'streamEvents', summary: 'What happens, as server-sent events.' },
        description:
          'Each `data:` is an Event. A client that does not read is cut after `event: end`, and resumes by `Last-Event-ID`.',
        ...{ querystring: EventsQuery, headers: EventsHeaders },
        response: {
          200: {
            description: 'A stream of Events.',
            content: { 'text/event-stream': { schema: named(EventSchema) } },
          },
        },
      },
    },
    (request, reply) => {
      const { vm, after, steps = true, follow = true } = request.query;
      const from = Number(request.headers['last-event-id'] ?? after ?? journal.lastSeq());
      reply.hijack();
      fan.serve(reply.raw, { vm, steps, from, follow });
    },
  );
}

/** The event as it goes over the wire; null for what is the service’s own note. */
function frameOf(record: JournalRecord): { text: string; isStep: boolean } | null {
  const event = eventOf(record);
  if (!event) return null;
  const text = `id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
  return { text, isStep: event.type === 'step' };
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
    case 'request':
    case 'cloudRequest':
      return null;
    case 'outside': {
      const change = body.change as OutsideChange | null;
      return change && { ...common, type: 'outside', event: change.what, detail: outsideLine(change) };
    }
    case 'wakeJudged': {
      const wake = body as { verdict: string; because: string[]; cause: string; rule: string | null };
      return { ...common, type: 'wake', event: 'judged', detail: verdictLine(wake), wake };
    }
    case 'hypervisor': {
      const said =
        body.state === 'lost' ? `its QEMU has gone: ${body.reason}. ${body.next}` : 'its QEMU is back';
      return { ...common, type: 'hypervisor', event: String(body.state), detail: said };
    }
    case 'policy': {
      const problem = body.error as ErrorBody | undefined;
      const said = problem ? `refused, the one before holds: ${problem.message}` : 'taken over';
      return {
        ...common,
        type: 'policy',
        event: String(body.state),
        error: null,
        detail: `policy ${body.file} ${said}`,
      };
    }
    case 'sagaCreated': {
      const { because } = body.input as { because?: ParkCause };
      const detail = parkLine(because);
      return { ...common, type: 'operation', event: 'started', detail };
    }
    case 'sagaResumed':
      return { ...common, type: 'operation', event: 'resumed' };
    case 'sagaEnded':
      return { ...common, type: 'operation', event: String(body.kind) };
    default:
      return { ...common, type: 'step', event };
  }
}

function parkLine(because: ParkCause | undefined): string | null {
  if (because?.cause === 'idle') return `nobody uses it: ${because.rule}`;
  return because?.cause === 'webhook' ? `asked for by ${because.by}` : null;
}
