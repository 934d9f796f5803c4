/** One event: a change of a VM’s state, of an operation or of one step of it, a wake and its verdict, its QEMU. */
import Type from 'typebox';
import type { ErrorBody } from '../../../common/errors.ts';
import type { Wake } from '../../vm/state.ts';
import { nullable, opaque, strict, Time } from './common.ts';

const EVENT_KINDS = ['vm', 'operation', 'step', 'wake', 'hypervisor', 'policy', 'outside'] as const;
type EventKind = (typeof EVENT_KINDS)[number];
export type EventWake = Wake | { verdict: string; because: string[]; cause: string; rule: string | null };

export const EventSchema = Type.Object(
  {
    id: Type.Integer({ description: 'Also the `id:` of the stream: `Last-Event-ID` resumes behind it.' }),
    time: Time,
    vm: Type.String(),
    type: Type.Unsafe<EventKind>({ type: 'string', enum: [...EVENT_KINDS] }),
    event: Type.String({
      description: 'For `vm` the new state, for `wake` its cause or `judged`, else what happened.',
    }),
    operation: nullable(Type.String()),
    step: nullable(Type.String()),
    ms: nullable(Type.Number()),
    error: nullable(opaque<ErrorBody>('`code`, `message`, `details`')),
    detail: nullable(Type.String({ description: 'One readable line, where there is more to say.' })),
    wake: nullable(opaque<EventWake>('All fields of a wake, or of what became of it (docs/wakes.md).')),
  },
  { $id: 'Event' },
);

export const EventsQuery = Type.Object(
  {
    vm: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
    after: Type.Optional(Type.Integer({ minimum: 0, description: 'Begin after this event.' })),
    steps: Type.Optional(Type.Boolean({ default: true, description: 'Each step of each operation.' })),
    follow: Type.Optional(Type.Boolean({ default: true, description: 'Stay for what comes.' })),
  },
  strict,
);

export const EventsHeaders = Type.Object({
  'last-event-id': Type.Optional(
    Type.String({
      pattern: '^\\d{1,15}$',
      description: 'The last event that was seen: the stream goes on behind it.',
    }),
  ),
});
