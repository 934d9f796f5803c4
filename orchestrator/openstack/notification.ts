/**
 * One of Nova's versioned notifications, taken apart. By AMQP its JSON is a text within JSON (oslo.messaging's envelope); a bridge
 * may send either. Pure.
 */
import Type from 'typebox';
import Value from 'typebox/value';
import type { OutsideChange } from '../vm/outside-change.ts';

const Message = Type.Object({
  event_type: Type.String({ minLength: 1, maxLength: 200 }),
  message_id: Type.Optional(Type.String()),
  payload: Type.Object({
    'nova_object.data': Type.Object({
      uuid: Type.Optional(Type.String()),
      tenant_id: Type.Optional(Type.String()),
      request_id: Type.Optional(Type.Union([Type.String(), Type.Null()])),
      host: Type.Optional(Type.Union([Type.String(), Type.Null()])),
    }),
  }),
});

export interface NovaNotification {
  eventType: string;
  /** Null when it is about something else than a server. */
  serverId: string | null;
  requestId: string | null;
  host: string | null;
}

/** @returns the reason why it can't be read, as a text */
export function readNotification(content: unknown): NovaNotification | string {
  let message = content;
  try {
    if (Buffer.isBuffer(message)) message = JSON.parse(message.toString('utf8'));
    const inner = (message as { 'oslo.message'?: unknown } | null)?.['oslo.message'];
    if (typeof inner === 'string') message = JSON.parse(inner);
  } catch (error) {
    return `no JSON: ${(error as Error).message}`;
  }
  if (!Value.Check(Message, message)) {
    const [first] = Value.Errors(Message, message);
    return `no versioned notification: ${first?.instancePath || '/'} ${first?.message}`;
  }
  const { uuid = null, request_id: requestId = null, host = null } = message.payload['nova_object.data'];
  return { eventType: message.event_type, serverId: uuid, requestId, host };
}

const CHANGES: Record<string, OutsideChange['what']> = {
  'instance.suspend.end': 'suspended',
  'instance.pause.end': 'suspended',
  'instance.resume.end': 'resumed',
  'instance.unpause.end': 'resumed',
  'instance.power_off.end': 'stopped',
  'instance.shutdown.end': 'stopped',
  'instance.soft_delete.end': 'stopped',
  'instance.shelve.end': 'stopped',
  'instance.power_on.end': 'started',
  'instance.reboot.end': 'started',
  'instance.rebuild.end': 'started',
  'instance.unshelve.end': 'started',
  'instance.restore.end': 'started',
  'instance.delete.end': 'deleted',
  // Told by the host that it comes to, whose name it carries; the one that it leaves tells `live_migration_post`.
  'instance.live_migration_post_dest.end': 'moved',
  'instance.evacuate.end': 'moved',
  'instance.resize_finish.end': 'moved',
};

/** What it means for a VM; null for what means nothing, such as a `.start`. */
export function changeOf({ eventType, requestId, host }: NovaNotification): OutsideChange | null {
  const what = Object.hasOwn(CHANGES, eventType) ? CHANGES[eventType] : undefined;
  if (!what || (what === 'moved' && host === null)) return null;
  return { what, requestId, host, by: 'Nova' };
}
