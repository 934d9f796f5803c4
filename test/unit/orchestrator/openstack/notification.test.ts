import { expect, test } from 'vitest';
import { changeOf, readNotification } from '../../../../orchestrator/openstack/notification.ts';

/** As Nova 31 sends it: JSON within JSON. */
function sent(eventType: string, data: object = {}): Buffer {
  const message = {
    message_id: '5a1f',
    publisher_id: 'nova-compute:compute1',
    event_type: eventType,
    priority: 'INFO',
    payload: {
      'nova_object.name': 'InstanceActionPayload',
      'nova_object.namespace': 'nova',
      'nova_object.version': '1.8',
      'nova_object.data': {
        uuid: 's-1',
        tenant_id: 'p-1',
        request_id: 'req-1',
        host: 'compute1',
        state: 'suspended',
        ...data,
      },
    },
    timestamp: '2026-11-21 18:00:00.000001',
  };
  return Buffer.from(JSON.stringify({ 'oslo.version': '2.0', 'oslo.message': JSON.stringify(message) }));
}

test('a notification is read out of oslo.messaging’s envelope, and without it', () => {
  const read = readNotification(sent('instance.suspend.end'));
  expect(read).toEqual({
    eventType: 'instance.suspend.end',
    serverId: 's-1',
    requestId: 'req-1',
    host: 'compute1',
  });
  const inner = JSON.parse(JSON.parse(sent('instance.suspend.end').toString())['oslo.message']);
  expect(readNotification(inner)).toEqual(read);
});

test.each([
  ['no JSON', Buffer.from('{"oslo.ver'), 'no JSON'],
  ['an envelope around no JSON', Buffer.from('{"oslo.message":"{"}'), 'no JSON'],
  [
    'an unversioned notification',
    Buffer.from('{"oslo.message":"{\\"event_type\\":\\"compute.instance.suspend.end\\",\\"payload\\":{}}"}'),
    'no versioned',
  ],
  ['null', Buffer.from('null'), 'no versioned'],
  ['odd types', sent('instance.suspend.end', { uuid: 7 }), 'no versioned'],
])('%s is poison, with the reason', (_what, content, reason) => {
  expect(readNotification(content)).toContain(reason);
});

test.each([
  ['instance.suspend.end', 'suspended'],
  ['instance.unpause.end', 'resumed'],
  ['instance.power_off.end', 'stopped'],
  ['instance.reboot.end', 'started'],
  ['instance.delete.end', 'deleted'],
  ['instance.live_migration_post_dest.end', 'moved'],
])('%s means that the VM was %s', (eventType, what) => {
  const read = readNotification(sent(eventType));
  expect(typeof read === 'string' ? read : changeOf(read)).toMatchObject({
    what,
    requestId: 'req-1',
    host: 'compute1',
  });
});

test.each(['instance.suspend.start', 'instance.update', 'constructor', 'instance.live_migration_post.end'])(
  '%s means nothing',
  (eventType) => {
    const read = readNotification(sent(eventType));
    expect(typeof read === 'string' ? read : changeOf(read)).toBeNull();
  },
);
