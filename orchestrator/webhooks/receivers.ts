/**
 * All who are told what happens to VMs; GET /v1/webhooks/receivers: how far each is, and what it would not take; and
 * POST /v1/webhooks/receivers/:name/resend, once it will.
 */
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import { SeamlessError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import { named, nullable, strict, Time } from '../api/schema/common.ts';
import { readSecret } from '../openstack/openstack-config.ts';
import type { Journal } from '../saga/journal.ts';
import { expectNamesOnce, Receiver, type ReceiverStatus } from './receiver.ts';
import { parseSecret } from './signature.ts';
import type { ReceiverConfig } from './webhook-config.ts';

export interface Receivers {
  status(): ReceiverStatus[];
  /** @throws `RECEIVER_UNKNOWN`, and `REQUEST_INVALID` for an id that is not there */
  resend(name: string, id?: string): number;
  close(): Promise<void>;
}

export function startReceivers(configs: readonly ReceiverConfig[], journal: Journal, log: Log): Receivers {
  expectNamesOnce(configs);
  const receivers = configs.map((config) => {
    const secret = parseSecret(config.name, readSecret(config.secretFile));
    return new Receiver({ config, secret, journal, log });
  });
  for (const receiver of receivers) receiver.start();
  return {
    status: () => receivers.map(({ status }) => status),
    resend(name, id) {
      const receiver = receivers.find(({ status }) => status.name === name);
      if (receiver) return receiver.resend(id);
      const known = configs.map((config) => config.name).join(', ') || 'none';
      throw new SeamlessError('RECEIVER_UNKNOWN', `Expected one of ${known}, got “${name}”`);
    },
    close: async () => void (await Promise.all(receivers.map((receiver) => receiver.close()))),
  };
}

const ReceiverSchema = Type.Object(
  {
    name: Type.String(),
    url: Type.String(),
    place: Type.Integer({ description: 'The number of the event up to which it has been told.' }),
    failing: nullable(Type.String({ description: 'Why the last attempt failed.' })),
    dead: Type.Array(
      Type.Object({
        id: Type.String(),
        event: Type.Unsafe<object>({ type: 'object', additionalProperties: true }),
        reason: Type.String(),
        at: Time,
      }),
      { description: 'What it would not take for so long that it was given up; the newest 100.' },
    ),
  },
  { $id: 'Receiver', description: 'Who is told what happens to VMs.' },
);

const ResendParams = Type.Object({ name: Type.String({ minLength: 1, maxLength: 64 }) });
const ResendBody = Type.Union([
  Type.Null(),
  Type.Object(
    { id: Type.Optional(Type.String({ description: 'Of one dead letter; all unless told.' })) },
    strict,
  ),
]);

export function receiverRoutes(app: FastifyInstance, receivers: Pick<Receivers, 'status' | 'resend'>): void {
  app.addSchema(ReceiverSchema);
  app.get(
    '/v1/webhooks/receivers',
    {
      config: { scope: 'read' },
      schema: {
        ...{
          tags: ['webhooks'],
          operationId: 'listReceivers',
          summary: 'Who is told what happens, and how far each is.',
        },
        response: { 200: Type.Object({ receivers: Type.Array(named(ReceiverSchema)) }) },
      },
    },
    () => ({ receivers: receivers.status() }),
  );
  app.post<{ Params: Type.Static<typeof ResendParams>; Body: Type.Static<typeof ResendBody> }>(
    '/v1/webhooks/receivers/:name/resend',
    {
      config: { scope: 'operate' },
      schema: {
        ...{ tags: ['webhooks'], operationId: 'resendDeadLetters', summary: 'Try dead letters once more.' },
        ...{ params: ResendParams, body: ResendBody },
        response: { 200: Type.Object({ name: Type.String(), resent: Type.Integer() }) },
      },
    },
    ({ params: { name }, body }) => ({ name, resent: receivers.resend(name, body?.id) }),
  );
}
