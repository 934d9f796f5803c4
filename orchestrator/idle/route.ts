/** GET /v1/vms/:name/explain: what is decided about a VM, and why. A plugin of the API. */
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import type { ErrorBody } from '../../common/errors.ts';
import { named, nullable, opaque, Time } from '../api/schema/common.ts';
import { NameParams } from '../api/schema/vm.ts';
import type { Attention } from './attention.ts';
import type { Explanation } from './explain.ts';
import type { SignalName, SignalState } from './signals.ts';

const ExplanationSchema = Type.Object(
  {
    vm: Type.String(),
    state: Type.String(),
    verdict: Type.Unsafe<Explanation['verdict']>({ type: 'string', enum: ['park', 'wake', 'abort', 'keep'] }),
    rule: Type.String({ description: 'The rule, and the line of the policy that decided.' }),
    signals: Type.Array(
      Type.Object({
        name: Type.Unsafe<SignalName>({ type: 'string' }),
        state: Type.Unsafe<SignalState>({ type: 'string', enum: ['busy', 'quiet', 'unknown'] }),
        value: nullable(Type.Number()),
        threshold: Type.Number(),
        age: nullable(Type.Number({ description: 'Seconds since it was last known.' })),
      }),
    ),
    forecast: Type.Object({
      nextUse: nullable(Time),
      confidence: Type.Number({
        description: '0 to 1: the chance of that use, or of none in the coming week.',
      }),
    }),
    nextTimer: nullable(Time),
    reason: Type.String({ description: 'The rule in words.' }),
    nextTimerName: nullable(Type.String()),
    refusal: nullable(
      Type.Object(
        { code: Type.String(), message: Type.String(), times: Type.Integer(), until: Time },
        { description: 'A park that could not be, and from when on another is tried.' },
      ),
    ),
    policy: Type.Object({
      file: nullable(
        Type.String({ description: 'null without a policy: then nothing is parked by itself.' }),
      ),
      problem: nullable(opaque<ErrorBody>('Why a changed file was refused, so that the one before holds.')),
    }),
    at: Time,
  },
  { $id: 'Explanation', description: 'What is decided about a VM, and why (docs/policy.md).' },
);

export function explainRoutes(app: FastifyInstance, attention: Pick<Attention, 'explain'>): void {
  app.addSchema(ExplanationSchema);
  app.get<{ Params: Type.Static<typeof NameParams> }>(
    '/v1/vms/:name/explain',
    {
      config: { scope: 'read' },
      schema: {
        ...{ tags: ['vms'], operationId: 'explainVm', summary: 'Why the VM is or is not parked.' },
        ...{ params: NameParams, response: { 200: named(ExplanationSchema) } },
      },
    },
    ({ params }): Explanation => attention.explain(params.name),
  );
}
