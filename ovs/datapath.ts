/**
 * Makes a change of flows effective now. A switch answers a bundle when its tables have changed, but its datapath goes
 * on with cached decisions until the revalidators have been round: 1 to 8 ms later on a busy machine (measured; OVS 3.1).
 * For that long a port that is closed still receives. Purging the cache is synchronous, and costs each active
 * connection of that switch one trip through the tables.
 */
import type { Duplex } from 'node:stream';
import { openOvsdb } from './ovsdb/connection.ts';

/**
 * Makes `change` and then flushes; the connection for that is opened meanwhile.
 * @param connect opens ovs-vswitchd's control socket, `/run/openvswitch/ovs-vswitchd.PID.ctl`, which speaks the same
 * JSON-RPC as OVSDB. Throws `HOST_UNREACHABLE` or `TIMEOUT`.
 */
export async function flushDatapath(
  connect: (signal: AbortSignal) => Promise<Duplex>,
  options: { name: string; timeoutMs?: number },
  change: () => Promise<void>,
): Promise<void> {
  const opening = openOvsdb(connect, options);
  opening.catch(() => {}); // heard after the change
  try {
    await change();
    await (await opening).call('revalidator/purge', []);
  } finally {
    opening.then(
      (control) => control.close(),
      () => {},
    );
  }
}
