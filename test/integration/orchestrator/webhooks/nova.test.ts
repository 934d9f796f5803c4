import { expect, test } from 'vitest';
import { post, receiving, SERVER } from './receiving.ts';

const member = { 'x-auth-token': 'member' };

function notification(eventType: string, over: object = {}) {
  const data = { uuid: SERVER, tenant_id: 'p', request_id: 'req-1', host: 'other', ...over };
  return { event_type: eventType, payload: { 'nova_object.data': data } };
}

test('a bridge’s notification is followed: what somebody else suspended is not parked, and that is known after a restart', async () => {
  const served = await receiving();
  const answer = await post(served, {
    path: 'nova',
    body: notification('instance.suspend.end'),
    headers: member,
  });
  expect(answer).toMatchObject({ status: 200, body: { followed: true } });
  await served.restart();
  expect(await served.client.get('/v1/vms/vm1')).toMatchObject({
    outside: expect.stringContaining('was suspended by somebody else (Nova, request req-1)'),
  });
  expect(await post(served, { headers: member })).toMatchObject({
    status: 409,
    body: { code: 'VM_OUTSIDE' },
  });
});

test('what we asked Nova for ourselves is known by its request id', async () => {
  const served = await receiving();
  served.journal.append([
    { vm: 'vm1', event: 'cloudRequest', body: { action: 'suspend', requestId: 'req-1' } },
  ]);
  const answer = await post(served, {
    path: 'nova',
    body: notification('instance.suspend.end'),
    headers: member,
  });
  expect(answer).toMatchObject({ status: 200, body: { followed: false } });
  expect(served.journal.last('vm1', 'outside')).toBeNull();
});

test('what is about no VM of ours is taken and left; what is no notification, or comes from a stranger, is refused', async () => {
  const served = await receiving();
  const other = notification('instance.delete.end', { uuid: '00000000-0000-4000-8000-000000000000' });
  expect(await post(served, { path: 'nova', body: other, headers: member })).toMatchObject({
    status: 200,
    body: { followed: false },
  });
  expect(await post(served, { path: 'nova', body: { event_type: 7 }, headers: member })).toMatchObject({
    status: 400,
  });
  const stranger = { 'x-auth-token': 'stranger' };
  const deleted = notification('instance.delete.end');
  expect(await post(served, { path: 'nova', body: deleted, headers: stranger })).toMatchObject({
    status: 403,
  });
  expect(await post(served, { path: 'nova', body: deleted })).toMatchObject({ status: 401 });
});
