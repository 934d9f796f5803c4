/** Real alarms of a real aodh, which park a VM through its webhook: plain with a signature of nobody, and by a trust of their owner. */

import { randomBytes } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import Fastify from 'fastify';
import { afterEach, describe, expect, test } from 'vitest';
import { silentLog } from '../../common/log.ts';
import { guard } from '../../orchestrator/api/access.ts';
import { sendProblem } from '../../orchestrator/api/problem.ts';
import type { ManagedVm } from '../../orchestrator/api/vms.ts';
import type { VmConfig } from '../../orchestrator/config.ts';
import { novaSwitchOff } from '../../orchestrator/openstack/nova-switch-off.ts';
import { webhookRoutes } from '../../orchestrator/webhooks/routes.ts';
import { World } from '../unit/orchestrator/sagas/world.ts';
import { drive } from '../unit/orchestrator/vm/driven.ts';
import { call, type Identity } from './identities.ts';
import { serverStatus } from './servers.ts';
import type { Stage } from './stage.ts';

interface Listening {
  url: string;
  vm: ManagedVm;
  /** What came, and how it was answered. */
  calls: { headers: IncomingHttpHeaders; body: unknown; status: number }[];
}

const ended: (() => Promise<unknown>)[] = [];

export function alarmTests(stage: () => Stage): void {
  describe('alarms', () => {
    afterEach(async () => {
      for (const end of ended.splice(0)) await end();
    });

    test('an alarm with trust+http parks the VM by its owner’s project: Nova suspends the server, and resumes it when it is unparked', async () => {
      const { cloud, keystone, tenant, serverId } = stage();
      const { url, vm, calls } = await listen(stage());
      await makeAlarm(stage(), tenant, `trust+${url}/v1/webhooks/aodh?action=park`);
      await fire(stage(), tenant);
      await expect.poll(() => calls.length, { timeout: 60_000 }).toBe(1);
      expect(calls[0]).toMatchObject({ status: 202, body: { vm: 'vm1', action: 'park' } });
      expect(calls[0]?.headers).toMatchObject({
        'x-auth-token': expect.any(String),
        'x-openstack-request-id': expect.stringMatching(/^req-/),
      });
      await vm.driver.idle();
      const token = await keystone.token(tenant);
      expect(vm.driver.state.kind).toBe('parked');
      expect(await serverStatus(cloud, token, serverId)).toBe('SUSPENDED');
      await vm.driver.unpark({ force: false });
      await vm.driver.idle();
      expect(vm.driver.state.kind).toBe('awake');
      expect(await serverStatus(cloud, token, serverId)).toBe('ACTIVE');
    });

    test('a plain alarm brings no token, so it is refused', async () => {
      const { tenant } = stage();
      const { url, vm, calls } = await listen(stage());
      await makeAlarm(stage(), tenant, `${url}/v1/webhooks/aodh?action=park`);
      await fire(stage(), tenant);
      await expect.poll(() => calls.length, { timeout: 60_000 }).toBe(1);
      expect(calls[0]?.headers['x-auth-token']).toBeUndefined();
      expect(calls[0]).toMatchObject({ status: 401, body: { code: 'UNAUTHENTICATED' } });
      expect(vm.driver.state.kind).toBe('awake');
    });

    test('an alarm of a stranger, who has a valid token of another project, parks nobody', async () => {
      const { keystone } = stage();
      const stranger = await keystone.user('stranger', ['member']);
      const { url, vm, calls } = await listen(stage());
      await makeAlarm(stage(), stranger, `trust+${url}/v1/webhooks/aodh?action=park`);
      await fire(stage(), stranger);
      await expect.poll(() => calls.length, { timeout: 60_000 }).toBe(1);
      expect(calls[0]).toMatchObject({ status: 403, body: { code: 'FORBIDDEN' } });
      expect(vm.driver.state.kind).toBe('awake');
    });
  });
}

/** The routes over a VM whose agents are modelled, and whose power is Nova's. */
async function listen({ nova, requests, tokens, journal, serverId, tenant }: Stage): Promise<Listening> {
  const world = new World();
  const power = novaSwitchOff({ vm: 'vm1', serverId, how: 'suspend', nova, requests, log: silentLog });
  const ports = world.ports.bind(world);
  world.ports = () => {
    const modelled = ports();
    return {
      ...modelled,
      power: {
        ...modelled.power,
        async switchOff(imageId, wanted) {
          await modelled.power.switchOff(imageId, wanted);
          return power.switchOff(imageId, wanted);
        },
        async switchOn() {
          await power.switchOn();
          await modelled.power.switchOn();
        },
      },
    };
  };
  const { driver } = drive(world, journal);
  driver.start();
  const vm = { driver, config: { name: 'vm1', openstack: { serverId } } as VmConfig } as ManagedVm;
  const app = Fastify({ forceCloseConnections: true });
  const calls: Listening['calls'] = [];
  app.setErrorHandler(sendProblem(silentLog));
  guard(app, () => ({ name: 'nobody', scope: 'read' }));
  app.addHook('onSend', async ({ headers }, reply, payload) => {
    calls.push({ headers, body: JSON.parse(String(payload)), status: reply.statusCode });
    return payload;
  });
  const cloud = { nova, requests, tokens, projectId: async () => tenant.projectId };
  await app.register(async (scope) =>
    webhookRoutes(scope, { vms: new Map([['vm1', vm]]), journal, log: silentLog, config: {}, cloud }),
  );
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  ended.push(async () => {
    await app.close();
    if (driver.state.kind === 'parked') await driver.unpark({ force: false });
    await driver.idle();
    driver.stop();
  });
  return { url, vm, calls };
}

let eventType = '';

/** A member’s own token: an application credential’s can’t make a trust. */
async function makeAlarm({ cloud, keystone }: Stage, owner: Identity, action: string): Promise<void> {
  eventType = `seamless.idle.${randomBytes(4).toString('hex')}`;
  const token = await keystone.token(owner);
  const { alarm_id: id } = await call<{ alarm_id: string }>('POST', `${cloud.aodh}/v2/alarms`, token, {
    name: `idle-${eventType}`,
    type: 'event',
    event_rule: { event_type: eventType, query: [] },
    alarm_actions: [action],
  });
  ended.push(async () => call('DELETE', `${cloud.aodh}/v2/alarms/${id}`, await keystone.token(owner)));
}

async function fire({ cloud, serverId }: Stage, { projectId }: Identity): Promise<void> {
  await cloud.sendAlarmEvent({
    message_id: randomBytes(8).toString('hex'),
    event_type: eventType,
    generated: new Date().toISOString().replace('Z', ''),
    traits: [
      ['project_id', 1, projectId],
      ['instance_id', 1, serverId],
    ],
    raw: {},
  });
}
