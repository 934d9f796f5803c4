/**
 * Makes a change of flows effective now. A switch answers a bundle when its tables have changed, but its datapath goes
 * on with cached decisions until the revalidators have been round: 1 to 8 ms later on a busy machine (measured; OVS 3.1).
 * For that long a port that is closed still receives. Purging the cache is synchronous, and costs each active
 * connection of that switch one trip through the tables.
 */
import type { Duplex } from 'node:stream';
import { asSeamlessError } from '../common/errors.ts';
import { type OvsdbConnection, openOvsdb } from './ovsdb/connection.ts';

/** One switch's control socket, opened at the first use and kept: a wake needs it without delay. */
export class DatapathControl {
  readonly #connect: (signal: AbortSignal) => Promise<Duplex>;
  readonly #options: { name: string; timeoutMs?: number };
  #kept: Promise<OvsdbConnection> | undefined;

  /**
   * @param connect opens ovs-vswitchd's control socket, `/run/openvswitch/ovs-vswitchd.PID.ctl`, which speaks the same
   * JSON-RPC as OVSDB
   */
  constructor(
    connect: (signal: AbortSignal) => Promise<Duplex>,
    options: { name: string; timeoutMs?: number },
  ) {
    this.#connect = connect;
    this.#options = options;
  }

  /** Makes `change` and then flushes. Throws what the change throws, `HOST_UNREACHABLE` or `TIMEOUT`. */
  async flushAfter(change: () => Promise<void>): Promise<void> {
    const opening = this.#connection();
    opening.catch(() => {}); // heard after the change
    await change();
    const control = await opening;
    try {
      await control.call('revalidator/purge', []);
    } catch (thrown) {
      control.close();
      // One that was kept may have ended unseen. To flush twice is no harm.
      if (asSeamlessError(thrown).code !== 'HOST_UNREACHABLE') throw thrown;
      await (await this.#connection()).call('revalidator/purge', []);
    }
  }

  close(): void {
    this.#kept?.then(
      (control) => control.close(),
      () => {},
    );
    this.#kept = undefined;
  }

  async #connection(): Promise<OvsdbConnection> {
    const kept = this.#kept;
    const open = await kept?.catch(() => null);
    if (open?.isOpen) return open;
    // Several may have waited for the one that has ended; the first opens the next.
    if (this.#kept === kept || !this.#kept) this.#kept = openOvsdb(this.#connect, this.#options);
    return this.#kept;
  }
}
