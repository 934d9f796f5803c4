/**
 * Reads what one VM has sent and received, without trivial traffic: the counters of payload-flows.ts, put where they are missing.
 *
 * A reading is `null`, not known, when the counters are new: at the first time, after a restart of the switch, and after anybody took them away.
 * Otherwise a counter only grows. Other health checks change nothing about the counters.
 */
import { commitBundle } from './openflow/bundle.ts';
import type { OpenFlowConnection } from './openflow/connection.ts';
import type { FlowChange, FlowSpec } from './openflow/flow-mod.ts';
import type { KeptConnection } from './openflow/kept-connection.ts';
import { type FlowCounters, portNumbers, readFlowCounters } from './openflow/multipart.ts';
import {
  COUNTERS,
  counterFlows,
  type PayloadOwner,
  payloadBytes,
  payloadCookie,
  trivialFlows,
} from './payload-flows.ts';

export interface PayloadMeterOptions {
  vmName: string;
  mac: string;
  bridge: KeptConnection;
  /** Name of the VM's port. */
  port: string;
  /** Milliseconds for each wait on the switch; 5 s unless told. */
  timeoutMs?: number;
}

const WHOLE_COOKIE = 0xffff_ffff_ffff_ffffn;
/** By how much a flow's age, of the switch's clock, may differ from ours between two readings. */
const DRIFT_S = 2;

export class PayloadMeter {
  readonly #options: PayloadMeterOptions;
  /** Of the last reading: the connection, the youngest counter's birth by our clock, and what is trivial by name. */
  #last: { connection: OpenFlowConnection; bornS: number; healthChecks: string } | null = null;

  constructor(options: PayloadMeterOptions) {
    this.#options = options;
  }

  /** Bytes of payload, both ways together, since the counters were put there; null when that was just now. */
  async read(healthChecks: readonly string[] = []): Promise<number | null> {
    const { vmName, bridge, timeoutMs } = this.#options;
    const connection = await bridge.connection(timeoutMs);
    const wanted = [...healthChecks].sort().join();
    const last = this.#last;
    if (last?.connection !== connection || last.healthChecks !== wanted) {
      this.#last = null;
      await this.#putTrivial(connection, healthChecks);
    }
    const counters = await readFlowCounters(connection, {
      cookie: payloadCookie(vmName, 'counter'),
      cookieMask: WHOLE_COOKIE,
    });
    if (counters.length !== COUNTERS) {
      this.#last = null;
      await this.#putCounters(connection, healthChecks);
      return null;
    }
    const bornS = performance.now() / 1000 - Math.min(...counters.map(({ seconds }) => seconds));
    this.#last = { connection, bornS, healthChecks: wanted };
    return last && bornS <= last.bornS + DRIFT_S ? total(counters) : null;
  }

  /** Takes all of them away: the VM is not managed any more. */
  async remove(): Promise<void> {
    const connection = await this.#options.bridge.connection(this.#options.timeoutMs);
    await commitBundle(connection, [this.#deletion('counter'), this.#deletion('trivial')]);
    this.#last = null;
  }

  async #putTrivial(connection: OpenFlowConnection, healthChecks: readonly string[]): Promise<void> {
    const flows = trivialFlows(await this.#owner(connection, healthChecks));
    await commitBundle(connection, [this.#deletion('trivial'), ...flows.map(added)]);
  }

  async #putCounters(connection: OpenFlowConnection, healthChecks: readonly string[]): Promise<void> {
    const flows = counterFlows(await this.#owner(connection, healthChecks));
    await commitBundle(connection, [this.#deletion('counter'), ...flows.map(added)]);
  }

  #deletion(kind: 'counter' | 'trivial'): FlowChange {
    const { vmName } = this.#options;
    return { type: 'delete', cookie: payloadCookie(vmName, kind), cookieMask: WHOLE_COOKIE };
  }

  async #owner(connection: OpenFlowConnection, healthChecks: readonly string[]): Promise<PayloadOwner> {
    const { vmName, mac, port } = this.#options;
    return { vmName, mac, healthChecks, vmPort: (await portNumbers(connection, [port]))[port] as number };
  }
}

function total(counters: readonly FlowCounters[]): number {
  return counters.reduce(
    (sum, { priority, packets, bytes }) => sum + payloadBytes(priority, packets, bytes),
    0,
  );
}

function added(flow: FlowSpec): FlowChange {
  return { type: 'add', flow };
}
