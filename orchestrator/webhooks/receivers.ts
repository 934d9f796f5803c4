/** All who are told what happens to VMs, and GET /v1/webhooks/receivers: how far each is, and what it would not take. */
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import type { Log } from '../../common/log.ts';
import { named, nullable, Time } from '../api/schema/common.ts';
import { readSecret } from '../openstack/openstack-config.ts';
import type { Journal } from '../saga/journal.ts';
import { expectNamesOnce, Receiver, type ReceiverStatus } from './receiver.ts';
import { parseSecret } from './signature.ts';
import type { ReceiverConfig } from './webhook-config.ts';

export interface Receivers {
  status(): ReceiverStatus[];
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

export function receiverRoutes(app: FastifyInstance, receivers: Pick<Receivers, 'status'>): void {
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
}
