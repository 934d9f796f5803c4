import { expect, onTestFinished, test } from 'vitest';
import { SeamlessError } from '../../../../common/errors.ts';
import { silentLog } from '../../../../common/log.ts';
import type { VmConfig } from '../../../../orchestrator/config.ts';
import { followers } from '../../../../orchestrator/openstack/follow.ts';
import { ownRequests } from '../../../../orchestrator/openstack/own-requests.ts';
import { openJournal } from '../../../../orchestrator/saga/journal.ts';
import type { OutsideChange } from '../../../../orchestrator/vm/outside-change.ts';

const SUSPENDED = { eventType: 'instance.suspend.end', serverId: 's1', requestId: 'req-1', host: 'hv' };

function following(changedOutside: (change: OutsideChange) => Promise<void>) {
  const journal = openJournal(':memory:');
  onTestFinished(() => journal.close());
  const requests = ownRequests(journal);
  const config = { name: 'vm1', openstack: { serverId: 's1' } } as VmConfig;
  return { requests, journal, ...followers([{ config, driver: { changedOutside } }], requests, silentLog) };
}

test('a notification that is faster than Nova’s reply waits for the id of our request', async () => {
  const changes: OutsideChange[] = [];
  const { requests, follow } = following(async (change) => void changes.push(change));
  const reply = Promise.withResolvers<string>();
  const asked = requests.perform('vm1', 'suspend', () => reply.promise);
  const followed = follow(SUSPENDED);
  reply.resolve('req-1');
  expect(await followed).toBe(false);
  expect(await asked).toBe('req-1');
  expect(changes).toEqual([]);
  expect(await follow({ ...SUSPENDED, requestId: 'req-2' })).toBe(true);
});

test('a request of ours that failed makes nobody’s doing ours', async () => {
  const { requests, follow } = following(async () => {});
  const asked = requests.perform('vm1', 'suspend', () => Promise.reject(new Error('no answer')));
  const followed = follow(SUSPENDED);
  await expect(asked).rejects.toThrow('no answer');
  expect(await followed).toBe(true);
});

test('what Nova refuses to confirm is said and left; what it can’t answer now is told again', async () => {
  let status = 403;
  const { follow } = following(async () => {
    throw new SeamlessError('CLOUD_REFUSED', 'GET …', { details: { status } });
  });
  expect(await follow(SUSPENDED)).toBe(false);
  status = 503;
  await expect(follow(SUSPENDED)).rejects.toMatchObject({ code: 'CLOUD_REFUSED' });
});
