/** Nova's notifications, led to the VMs that they are about. What we asked for ourselves is known by its request id, and left out. */
import type { Log } from '../../common/log.ts';
import type { VmConfig } from '../config.ts';
import type { VmDriver } from '../vm/driver.ts';
import { changeOf, type NovaNotification } from './notification.ts';
import type { OwnRequests } from './own-requests.ts';
import { statusOf } from './request.ts';

export interface Followed {
  config: VmConfig;
  driver: Pick<VmDriver, 'changedOutside'>;
}

export interface Followers {
  /** The VM that a notification is about. */
  vmOf(notification: NovaNotification): Followed | null;
  /** What follows from it is durable when this resolves. @returns whether anything did */
  follow(notification: NovaNotification): Promise<boolean>;
}

export function followers(vms: Iterable<Followed>, requests: OwnRequests, log: Log): Followers {
  const byServer = new Map<string, Followed>();
  for (const vm of vms) if (vm.config.openstack) byServer.set(vm.config.openstack.serverId, vm);
  const vmOf = ({ serverId }: NovaNotification) =>
    serverId === null ? null : (byServer.get(serverId) ?? null);
  return {
    vmOf,
    async follow(notification) {
      const vm = vmOf(notification);
      const change = vm && changeOf(notification);
      if (!vm || !change) return false;
      const { requestId } = change;
      const { name } = vm.config;
      if (requestId !== null && (await requests.isOurs(name, requestId))) {
        log.debug('nova.own', { vmId: name, what: change.what, requestId });
        return false;
      }
      try {
        await vm.driver.changedOutside(change);
        return true;
      } catch (error) {
        // Asked again it would say the same, and everything behind it would wait. Nothing has been destroyed.
        if (!isRefusal(error)) throw error;
        log.error('nova.unconfirmed', { vmId: name, ...change, error });
        return false;
      }
    },
  };
}

/** Nova has understood the question, and will not answer it. */
function isRefusal(error: unknown): boolean {
  const status = statusOf(error);
  return status !== null && status >= 400 && status < 500;
}
