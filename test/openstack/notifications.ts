/** Nova's own notifications off a real RabbitMQ: what others do is followed, what we do is not, and nothing is lost while we are away. */
import { randomBytes } from 'node:crypto';
import { connect } from 'amqplib';
import { afterEach, describe, expect, test } from 'vitest';
import { silentLog } from '../../common/log.ts';
import type { VmConfig } from '../../orchestrator/config.ts';
import { followers } from '../../orchestrator/openstack/follow.ts';
import { followNotifications } from '../../orchestrator/openstack/notifications.ts';
import { novaSwitchOff } from '../../orchestrator/openstack/nova-switch-off.ts';
import type { OutsideChange } from '../../orchestrator/vm/outside-change.ts';
import { World } from '../unit/orchestrator/sagas/world.ts';
import { drive } from '../unit/orchestrator/vm/driven.ts';
import { act, makeServer, removeServer } from './servers.ts';
import type { Stage } from './stage.ts';

const ended: (() => Promise<unknown>)[] = [];
const NEVER = new AbortController().signal;
const SOON = { timeout: 60_000 };

export function notificationTests(stage: () => Stage): void {
  describe('notifications', () => {
    afterEach(async () => {
      for (const end of ended.splice(0).reverse()) await end();
    });

    test('what its owner does by hand is followed, with the request’s id; what we ask for is known as ours', async () => {
      const { cloud, keystone, tenant, serverId, nova, requests } = stage();
      const changes: OutsideChange[] = [];
      const { ready } = await follow(
        stage(),
        serverId,
        newQueue(),
        async (change) => void changes.push(change),
      );
      await ready;
      const power = novaSwitchOff({ vm: 'vm1', serverId, how: 'suspend', nova, requests, log: silentLog });
      await power.switchOff('image', NEVER);
      await power.switchOn();
      const token = await keystone.token(tenant);
      await act(cloud, token, serverId, 'suspend');
      await expect.poll(() => changes.length, SOON).toBe(1);
      await power.switchOn();
      await act(cloud, token, serverId, 'pause');
      await expect.poll(() => changes.length, SOON).toBe(2);
      await power.switchOn();
      expect(changes).toMatchObject([{ what: 'suspended' }, { what: 'suspended' }]);
      for (const { requestId } of changes) expect(requestId).toMatch(/^req-/);
    });

    test('what happens while we are away waits in the queue, and is kept until it is durable', async () => {
      const { cloud, keystone, tenant, serverId, nova, requests } = stage();
      const queue = newQueue();
      const first = await follow(stage(), serverId, queue, async () => {});
      await first.ready;
      await first.close();
      await act(cloud, await keystone.token(tenant), serverId, 'pause');
      const changes: OutsideChange[] = [];
      let failures = 1;
      await follow(stage(), serverId, queue, async (change) => {
        failures -= 1;
        if (failures >= 0) throw new Error('the journal’s disk is full');
        changes.push(change);
      });
      await expect.poll(() => changes, SOON).toMatchObject([{ what: 'suspended' }]);
      await novaSwitchOff({ vm: 'vm1', serverId, how: 'pause', nova, requests, log: silentLog }).switchOn();
    });

    test('what can’t be read is put aside with the reason, and what comes behind it is followed', async () => {
      const { cloud, keystone, tenant, serverId, nova, requests } = stage();
      const queue = newQueue();
      const changes: OutsideChange[] = [];
      await (await follow(stage(), serverId, queue, async (change) => void changes.push(change))).ready;
      const connection = await connect(cloud.amqp);
      ended.push(() => connection.close());
      const channel = await connection.createChannel();
      channel.sendToQueue(queue, Buffer.from('{"oslo.message": "no'));
      await act(cloud, await keystone.token(tenant), serverId, 'pause');
      await expect.poll(() => changes.length, SOON).toBe(1);
      const dead = await channel.get(`${queue}.dead`, { noAck: true });
      expect(dead && dead.properties.headers).toMatchObject({
        'x-seamless-reason': expect.stringContaining('no JSON'),
      });
      await novaSwitchOff({ vm: 'vm1', serverId, how: 'pause', nova, requests, log: silentLog }).switchOn();
    });

    test('a parked VM whose server is deleted is gone, its sink destroyed, after Nova was asked', async () => {
      const { cloud, keystone, tenant, nova, journal, requests } = stage();
      const serverId = await makeServer(cloud, keystone, tenant);
      const world = new World();
      const { driver } = drive(world, journal, {
        vm: 'vm-deleted',
        outside: {
          ...{ id: serverId, home: 'compute1' },
          isGone: async () => (await nova.server(serverId)) === null,
          forget: async () => void (world.sink = null),
        },
      });
      driver.start();
      ended.push(async () => driver.stop());
      driver.park();
      await driver.idle();
      const config = { name: 'vm-deleted', openstack: { serverId } } as VmConfig;
      const consumer = followNotifications({
        ...{ url: cloud.amqp, queue: newQueue(), log: silentLog },
        onNotification: followers([{ config, driver }], requests, silentLog).follow,
      });
      ended.push(() => consumer.close());
      await consumer.ready;
      await removeServer(cloud, await keystone.token(tenant), serverId);
      await expect.poll(() => driver.state, SOON).toMatchObject({ kind: 'gone', sink: 'destroyed' });
      expect(world.sink).toBeNull();
    });
  });

  function newQueue(): string {
    const queue = `seamless-${randomBytes(4).toString('hex')}`;
    ended.push(async () => {
      const connection = await connect(stage().cloud.amqp);
      const channel = await connection.createChannel();
      for (const name of [queue, `${queue}.dead`]) await channel.deleteQueue(name);
      await connection.close();
    });
    return queue;
  }
}

async function follow(
  { cloud, requests }: Stage,
  serverId: string,
  queue: string,
  changedOutside: (change: OutsideChange) => Promise<void>,
) {
  const config = { name: 'vm1', openstack: { serverId } } as VmConfig;
  const consumer = followNotifications({
    ...{ url: cloud.amqp, queue, log: silentLog, backoffMs: { first: 100, most: 1000 } },
    onNotification: followers([{ config, driver: { changedOutside } }], requests, silentLog).follow,
  });
  ended.push(() => consumer.close());
  return consumer;
}
