/** The nova switch-off driver on a real Nova: both directions, repeated, interrupted, and in the way of others. */
import { describe, expect, test } from 'vitest';
import { silentLog } from '../../common/log.ts';
import { novaSwitchOff } from '../../orchestrator/openstack/nova-switch-off.ts';
import { act, serverStatus } from './servers.ts';
import type { Stage } from './stage.ts';

const NEVER = new AbortController().signal;

export function powerTests(stage: () => Stage): void {
  describe('switching off through Nova', () => {
    const driver = (how: 'suspend' | 'pause' = 'suspend', serverId = stage().serverId) => {
      const { nova, requests } = stage();
      return novaSwitchOff({ vm: 'vm1', serverId, how, nova, requests, log: silentLog, deadlineMs: 30_000 });
    };
    const status = async () => {
      const { cloud, keystone, tenant, serverId } = stage();
      return serverStatus(cloud, await keystone.token(tenant), serverId);
    };
    const byHand = async (action: string) => {
      const { cloud, keystone, tenant, serverId } = stage();
      await act(cloud, await keystone.token(tenant), serverId, action);
    };

    test.each(['suspend', 'pause'] as const)('%s and back, each asked for twice', async (how) => {
      const power = driver(how);
      expect(await power.switchOff('image', NEVER)).toMatchObject({ off: true });
      expect(await power.switchOff('image', NEVER)).toMatchObject({ off: true });
      expect(await status()).toBe(how === 'suspend' ? 'SUSPENDED' : 'PAUSED');
      await power.switchOn();
      await power.switchOn();
      expect(await status()).toBe('ACTIVE');
    });

    test('each request’s id is in the journal before anybody goes on', async () => {
      const { journal, requests } = stage();
      await driver().switchOff('image', NEVER);
      await driver().switchOn();
      const noted = journal.all('vm1', 'cloudRequest').slice(-2);
      expect(noted.map(({ body }) => body.action)).toEqual(['suspend', 'resume']);
      for (const { body } of noted) expect(await requests.isOurs('vm1', String(body.requestId))).toBe(true);
      expect(await requests.isOurs('vm1', 'req-of-somebody-else')).toBe(false);
    });

    test('a VM that is wanted while Nova suspends it comes back at once', async () => {
      const wanted = new AbortController();
      const { requests } = stage();
      const power = novaSwitchOff({
        ...{
          vm: 'vm1',
          serverId: stage().serverId,
          how: 'suspend',
          nova: stage().nova,
          log: silentLog,
          deadlineMs: 30_000,
        },
        requests: {
          ...requests,
          perform: (...asked) => requests.perform(...asked).finally(() => wanted.abort()),
        },
      });
      expect(await power.switchOff('image', wanted.signal)).toMatchObject({ off: false });
      expect(await status()).toBe('ACTIVE');
    });

    test('what somebody else has suspended is off, and is resumed all the same', async () => {
      await byHand('suspend');
      expect(await driver('pause').switchOff('image', NEVER)).toMatchObject({ off: true });
      await driver('pause').switchOn();
      expect(await status()).toBe('ACTIVE');
    });

    test('a server that was stopped is not started: its memory is lost, and that is said', async () => {
      await byHand('os-stop');
      await expect.poll(status, { timeout: 20_000 }).toBe('SHUTOFF');
      await expect(driver().switchOn()).rejects.toMatchObject({
        code: 'HOST_UNREACHABLE',
        message: expect.stringContaining('its memory is lost'),
      });
      await byHand('os-start');
      await expect.poll(status, { timeout: 20_000 }).toBe('ACTIVE');
    });

    test('a server that is not there is said', async () => {
      const nobody = driver('suspend', '00000000-0000-4000-8000-000000000000');
      await expect(nobody.switchOff('image', NEVER)).rejects.toMatchObject({
        message: expect.stringContaining('deleted'),
      });
    });
  });
}
