/** POST /v1/webhooks/nova: Nova's versioned notifications from who reads them off the message bus in our stead. One a request, as it is. */
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import { SeamlessError } from '../../common/errors.ts';
import { named } from '../api/schema/common.ts';
import type { Followers } from '../openstack/follow.ts';
import { readNotification } from '../openstack/notification.ts';
import type { Sender } from './senders.ts';

const NotificationBody = Type.Object(
  {},
  {
    $id: 'NovaNotification',
    additionalProperties: true,
    description: 'A versioned notification, in oslo.messaging’s envelope or without it.',
  },
);
const NotificationReply = Type.Object(
  {
    followed: Type.Boolean({
      description: 'It changed what is known of a VM; false for what is ours, or nobody’s.',
    }),
  },
  { $id: 'NotificationReply' },
);

export function novaBridge(app: FastifyInstance, followers: Followers, bodyLimit: number): void {
  for (const schema of [NotificationBody, NotificationReply]) app.addSchema(schema);
  app.post<{ Body: object }>(
    '/v1/webhooks/nova',
    {
      config: { scope: 'own' },
      bodyLimit,
      schema: {
        ...{
          tags: ['webhooks'],
          operationId: 'novaNotification',
          summary: 'Somebody else changed a server.',
        },
        ...{ body: named(NotificationBody), response: { 200: named(NotificationReply) } },
      },
    },
    async ({ body, sender }) => {
      const notification = readNotification(body);
      if (typeof notification === 'string')
        throw new SeamlessError('REQUEST_INVALID', `Expected a notification of Nova, got ${notification}`);
      const vm = followers.vmOf(notification);
      if (!vm) return { followed: false };
      await (sender as Sender).mayActOn(vm.config);
      return { followed: await followers.follow(notification) };
    },
  );
}
