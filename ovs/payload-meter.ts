/**
 * Reads what one VM has sent and received, without trivial traffic: the counters of payload-flows.ts, put where they are missing.
 *
 * A reading is `null`, not known, when the counters are new: it has just put them there, or the switch was restarted, or somebody took
 * them away. Otherwise it only grows. Other health checks change nothing about the counters.
 */
import { commitBundle } from './openflow/bundle.ts';
import type { OpenFlowConnection } from './openflow/connection.ts';
import { added, type FlowChange } from './openflow/flow-mod.ts';
import type { KeptConnection } from './openflow/kept-connection.ts';
import { type FlowCounters, readFlowCounters } from './openflow/multipart.ts';
import { COUNTERS, counterFlows, payloadBytes, payloadCookie, trivialFlows } from './payload-flows.ts';

export interface PayloadMeterOptions {
  vmName: string;
  mac: string;
  bridge: KeptConnection;
  /** Milliseconds for each wait on the switch; 5 s unless told. */
  timeoutMs?: number;
}

type Kind = 'counter' | 'trivial';

const FLOWS = { counter: counterFlows, trivial: trivialFlows } satisfies Record<Kind, unknown>;
const WHOLE_COOKIE = 0xffff_ffff_ffff_ffffn;
/** By how much a flow's age, of the switch's clock, may differ from ours between two readings. */
const DRIFT_S = 2;

export class PayloadMeter {
  readonly #options: PayloadMeterOptions;
  /** When the youngest counter was made, in seconds of our clock; null before the first reading. */
  #bornS: number | null = null;
  /** Where what is trivial by name has been put, and what that is. */
  #trivial: { connection: OpenFlowConnection; healthChecks: string } | null = null;

  constructor(options: PayloadMeterOptions) {
    this.#options = options;
  }

  /** Bytes of payload, both ways together, since the counters were put there; null when that was a reading ago. */
  async read(healthChecks: readonly string[] = []): Promise<number | null> {
    const { vmName, bridge, timeoutMs } = this.#options;
    const connection = await bridge.connection(timeoutMs);
    const wanted = [...healthChecks].sort().join();
    if (this.#trivial?.connection !== connection || this.#trivial.healthChecks !== wanted) {
      await this.#put(connection, 'trivial', healthChecks);
      this.#trivial = { connection, healthChecks: wanted };
    }
    const counters = await readFlowCounters(connection, {
      cookie: payloadCookie(vmName, 'counter'),
      cookieMask: WHOLE_COOKIE,
    });
    if (counters.length !== COUNTERS) {
      await this.#put(connection, 'counter', healthChecks);
      this.#bornS = performance.now() / 1000;
      return null;
    }
    const bornS = performance.now() / 1000 - Math.min(...counters.map(({ seconds }) => seconds));
    const areTheSame = bornS <= (this.#bornS ?? bornS) + DRIFT_S;
    this.#bornS = bornS;
    return areTheSame ? total(counters) : null;
  }

  /** Takes all of them away: the VM is not managed any more. */
  async remove(): Promise<void> {
    const connection = await this.#options.bridge.connection(this.#options.timeoutMs);
    await commitBundle(connection, [this.#deletion('counter'), this.#deletion('trivial')]);
    this.#trivial = null;
  }

  async #put(connection: OpenFlowConnection, kind: Kind, healthChecks: readonly string[]): Promise<void> {
    const { vmName, mac } = this.#options;
    const flows = FLOWS[kind]({ vmName, mac, healthChecks });
    await commitBundle(connection, [this.#deletion(kind), ...flows.map(added)]);
  }

  #deletion(kind: Kind): FlowChange {
    const { vmName } = this.#options;
    return { type: 'delete', cookie: payloadCookie(vmName, kind), cookieMask: WHOLE_COOKIE };
  }
}

function total(counters: readonly FlowCounters[]): number {
  return counters.reduce(
    (sum, { priority, packets, bytes }) => sum + payloadBytes(priority, packets, bytes),
    0,
  );
}
