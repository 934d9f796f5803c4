import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { issueCertificate } from '../../../../lab/pki.ts';
import { alarm, OTHER_SERVER, post, receiving, signed } from './receiving.ts';

const member = { 'x-auth-token': 'member' };

test('an alarm parks its server’s VM at once, and “ok” brings it back', async () => {
  const served = await receiving();
  const vm = served.vms.get('vm1');
  const parked = await post(served, {
    headers: { 'x-auth-token': 'by-trust', 'x-openstack-request-id': 'req-1' },
  });
  expect(parked).toMatchObject({
    status: 202,
    body: { vm: 'vm1', action: 'park', already: false, ignored: null },
  });
  expect(parked.body.operation).toBe(served.journal.lastSaga('vm1', 'park'));
  await vm?.driver.idle();
  expect(vm?.driver.state.kind).toBe('parked');
  const woken = await post(served, {
    body: alarm('ok'),
    headers: { ...member, 'x-openstack-request-id': 'req-2' },
  });
  expect(woken).toMatchObject({
    status: 202,
    body: { action: 'unpark', operation: expect.stringMatching(/^unpark-vm1-/) },
  });
  await vm?.driver.idle();
  expect(vm?.driver.state.kind).toBe('awake');
});

test('?action=unpark turns it round, ?vm= names the VM where the alarm does not', async () => {
  const served = await receiving();
  const threshold = { alarm_id: 'a', current: 'ok', reason_data: { type: 'threshold', most_recent: 0.1 } };
  const parked = await post(served, { body: threshold, path: 'aodh?action=unpark&vm=vm2', headers: member });
  expect(parked).toMatchObject({ status: 202, body: { vm: 'vm2', action: 'park' } });
  await served.vms.get('vm2')?.driver.idle();
});

test('“insufficient data” does nothing, and says so', async () => {
  const served = await receiving();
  const answer = await post(served, { body: alarm('insufficient data'), headers: member });
  expect(answer).toMatchObject({
    status: 200,
    body: { operation: null, ignored: expect.stringContaining('insufficient data') },
  });
  expect(served.vms.get('vm1')?.driver.state.kind).toBe('awake');
});

test('the same x-openstack-request-id has one effect, also after a restart of the service', async () => {
  const served = await receiving();
  const once = { headers: { ...member, 'x-openstack-request-id': 'req-once' } };
  const [first, second] = await Promise.all([post(served, once), post(served, once)]);
  expect(second.body).toEqual(first.body);
  await served.vms.get('vm1')?.driver.idle();
  await post(served, { body: alarm('ok'), headers: member });
  await served.vms.get('vm1')?.driver.idle();
  await served.restart();
  expect((await post(served, once)).body).toEqual(first.body);
  expect(served.vms.get('vm1')?.driver.state.kind).toBe('awake');
});

test('a VM that is busy or that its policy keeps awake is refused with the reason, and the same webhook may come again', async () => {
  let veto: string | null = 'backup.timer is due in 90 s (policy.yaml:9, timers)';
  const served = await receiving({ veto: () => veto });
  const asked = { headers: { ...member, 'x-openstack-request-id': 'req-veto' } };
  expect(await post(served, asked)).toMatchObject({
    status: 409,
    body: { code: 'VM_VETOED', detail: expect.stringContaining('backup.timer') },
  });
  veto = null;
  expect(await post(served, asked)).toMatchObject({ status: 202 });
  const vm = served.vms.get('vm1');
  await vm?.driver.idle();
  const gate = Promise.withResolvers<void>();
  if (vm) vm.world.gate = (name) => (name === 'switchOn' ? gate.promise : Promise.resolve());
  await post(served, { body: alarm('ok'), headers: member });
  const busy = await post(served, { headers: member });
  gate.resolve();
  expect(busy).toMatchObject({
    status: 409,
    body: { code: 'VM_BUSY', detail: expect.stringContaining('waking up') },
  });
  await vm?.driver.idle();
});

test('an unpark during a park past its pivot is answered at once, and follows', async () => {
  const served = await receiving();
  const vm = served.vms.get('vm1');
  const [entered, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  if (vm) {
    vm.world.gate = (name) => {
      if (name !== 'switchOff') return Promise.resolve();
      entered.resolve();
      return gate.promise;
    };
  }
  const { body } = await post(served, { headers: member });
  await entered.promise;
  const answer = await post(served, { body: alarm('ok'), headers: member });
  expect(answer).toMatchObject({ status: 202, body: { action: 'unpark', operation: body.operation } });
  gate.resolve();
  await vm?.driver.idle();
  expect(vm?.driver.state.kind).toBe('awake');
});

const REFUSED = [
  ['nothing', {}, 401, 'UNAUTHENTICATED'],
  ['a token that Keystone does not know', { 'x-auth-token': 'nonsense' }, 401, 'UNAUTHENTICATED'],
  ['a token of another project', { 'x-auth-token': 'stranger' }, 403, 'FORBIDDEN'],
  ['a token without a project', { 'x-auth-token': 'unscoped' }, 403, 'FORBIDDEN'],
  ['a reader’s token', { 'x-auth-token': 'reader' }, 403, 'FORBIDDEN'],
] as const;

test('without a token, or with one that is unknown, of another project or of a mere reader, it is refused', async () => {
  const served = await receiving();
  for (const [what, headers, status, code] of REFUSED) {
    expect(await post(served, { headers: { ...headers } }), what).toMatchObject({ status, body: { code } });
  }
  expect(served.vms.get('vm1')?.driver.state.kind).toBe('awake');
});

test('a signed webhook is taken once: its replay is refused, with the operation of before', async () => {
  const served = await receiving();
  const body = alarm('alarm');
  const headers = signed(body);
  const first = await post(served, { body, headers });
  expect(first.status).toBe(202);
  await served.vms.get('vm1')?.driver.idle();
  await served.restart();
  expect(await post(served, { body, headers })).toMatchObject({
    status: 409,
    body: { code: 'WEBHOOK_REPLAYED', details: { operation: first.body.operation } },
  });
});

const FORGED: [string, () => Record<string, string>][] = [
  ['over another body', () => signed(alarm('ok'))],
  [
    'by another secret',
    () => signed(alarm('alarm'), { secret: `whsec_${randomBytes(32).toString('base64')}` }),
  ],
  ['of six minutes ago', () => signed(alarm('alarm'), { atMs: Date.now() - 360_000 })],
  ['of six minutes ahead', () => signed(alarm('alarm'), { atMs: Date.now() + 360_000 })],
  ['with another id than was signed', () => ({ ...signed(alarm('alarm')), 'webhook-id': 'msg_other' })],
  ['without a timestamp', () => ({ 'webhook-id': 'msg_1', 'webhook-signature': 'v1,AAAA' })],
  ['that is wrong, though a good token is there', () => ({ ...member, ...signed(alarm('ok')) })],
];

test('a signature over another body, by another secret, too old, too new or incomplete is refused', async () => {
  const served = await receiving();
  for (const [what, headers] of FORGED) {
    expect(await post(served, { headers: headers() }), what).toMatchObject({
      status: 401,
      body: { code: 'UNAUTHENTICATED' },
    });
  }
  expect(served.vms.get('vm1')?.driver.state.kind).toBe('awake');
});

test('a signer acts on its own VMs alone', async () => {
  const served = await receiving();
  const body = alarm('alarm', OTHER_SERVER);
  expect(await post(served, { body, headers: signed(body) })).toMatchObject({
    status: 403,
    body: { code: 'FORBIDDEN' },
  });
});

test('a client certificate of a configured name is enough, another one is not', async () => {
  const served = await receiving();
  const certificateOf = async (name: string) => {
    const { cert, key } = await issueCertificate(served.folder, name, name, []);
    return { cert: readFileSync(cert), key: readFileSync(key) };
  };
  const stranger = await post(served, { certificate: await certificateOf('stranger') });
  expect(stranger).toMatchObject({ status: 401, body: { detail: expect.stringContaining('“stranger”') } });
  expect(await post(served, { certificate: await certificateOf('alarms') })).toMatchObject({ status: 202 });
  await served.vms.get('vm1')?.driver.idle();
});

const ODD: [string, unknown, number, string][] = [
  ['JSON that is cut off', '{"alarm_id": "a", "current": "al', 400, 'REQUEST_INVALID'],
  ['a list', '[]', 400, 'REQUEST_INVALID'],
  ['a state that aodh does not have', { alarm_id: 'a', current: 'maybe' }, 400, 'REQUEST_INVALID'],
  ['no server at all', { alarm_id: 'a', current: 'alarm' }, 400, 'REQUEST_INVALID'],
  [
    'traits that are none',
    { alarm_id: 'a', current: 'alarm', reason_data: { event: { traits: 'x' } } },
    400,
    'REQUEST_INVALID',
  ],
  [
    'a server that is not registered',
    alarm('alarm', '00000000-0000-4000-8000-000000000000'),
    404,
    'VM_UNKNOWN',
  ],
  ['more than 64 KiB', { ...alarm('alarm'), reason: 'x'.repeat(70_000) }, 413, 'BODY_TOO_LARGE'],
];

test('a body that is malformed, oversize or about an unknown server is a problem with a code, and parks nobody', async () => {
  const served = await receiving();
  for (const [what, body, status, code] of ODD) {
    expect(await post(served, { body, headers: member }), what).toMatchObject({ status, body: { code } });
  }
  expect(served.vms.get('vm1')?.driver.state.kind).toBe('awake');
});

test('an action that is none, or an unknown VM by name, is refused', async () => {
  const served = await receiving();
  expect(await post(served, { path: 'aodh?action=delete', headers: member })).toMatchObject({ status: 400 });
  expect(await post(served, { path: 'aodh', headers: member })).toMatchObject({ status: 400 });
  expect(await post(served, { path: 'aodh?action=park&vm=nosuch', headers: member })).toMatchObject({
    status: 404,
  });
});

test('who guesses is slowed down', async () => {
  const served = await receiving();
  for (let guess = 0; guess < 10; guess += 1)
    await post(served, { headers: { 'x-auth-token': `guess-${guess}` } });
  expect(await post(served, { headers: member })).toMatchObject({
    status: 429,
    body: { code: 'RATE_LIMITED' },
  });
});
