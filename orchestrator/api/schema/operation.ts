/** An operation as the API shows it; its fields are those of vm/operation.ts. */
import Type from 'typebox';
import type { ErrorBody } from '../../../common/errors.ts';
import type { StepStatus } from '../../saga/status.ts';
import type { Operation } from '../../vm/operation.ts';
import { Next, named, nullable, opaque, PageQuery, strict, Time } from './common.ts';

const OPERATION_STATUS = ['running', 'succeeded', 'unwound', 'stuck'] as const;

export const OperationSchema = Type.Object(
  {
    id: Type.String(),
    vm: Type.String(),
    kind: Type.Unsafe<Operation['kind']>({ type: 'string', enum: ['park', 'unpark'] }),
    status: Type.Unsafe<Operation['status']>({
      ...{ type: 'string', enum: [...OPERATION_STATUS] },
      description: 'unwound: it failed or was taken back, and the VM is as before.',
    }),
    startedAt: Time,
    endedAt: nullable(Time),
    ms: nullable(Type.Number()),
    cause: Type.Unsafe<Operation['cause']>({
      type: ['string', 'null'],
      description:
        'What caused an unpark: syscall, syn, packets, sink, manual, timer, lease, forecast, policy; or a park: manual, idle.',
    }),
    rule: nullable(
      Type.String({
        description: 'Of a park by the service: the rule, and the line of the policy that decided.',
      }),
    ),
    trigger: nullable(opaque<NonNullable<Operation['trigger']>>('All that is known of what woke the VM.')),
    steps: Type.Array(
      Type.Object({
        name: Type.String(),
        status: Type.Unsafe<StepStatus>({ type: 'string' }),
        ms: nullable(Type.Number()),
        undoMs: nullable(Type.Number()),
      }),
    ),
    error: nullable(opaque<ErrorBody>('Why it did not succeed: `code`, `message`, `details`.')),
    result: Type.Unsafe<Record<string, number | boolean>>({
      ...{ type: 'object', additionalProperties: true },
      description: 'What the steps found and measured: bytes, processes.',
    }),
  },
  { $id: 'Operation', description: 'A park or an unpark, with each of its steps.' },
);

export const OperationReplySchema = Type.Object(
  {
    already: Type.Boolean({ description: 'The VM was as wanted before, or was on its way.' }),
    operation: nullable(named(OperationSchema)),
    eventId: Type.Integer({ description: 'Follow `/v1/events?after=` from here to see each step.' }),
  },
  { $id: 'OperationReply' },
);

export const OperationsPage = Type.Object({ operations: Type.Array(named(OperationSchema)), next: Next });

export const OperationParams = Type.Object({ id: Type.String({ minLength: 1, maxLength: 200 }) });

export const OperationsQuery = Type.Object(
  { vm: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })), ...PageQuery },
  strict,
);

export const IdempotencyHeaders = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      ...{ minLength: 1, maxLength: 200 },
      description:
        'A request that was accepted under this key is not carried out again: its answer is, for a day.',
    }),
  ),
});
