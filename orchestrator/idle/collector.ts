/**
 * Takes what is reported of one VM and keeps its history: the live counterpart of a trace. Where reports come from is the caller's: the
 * vm-agent's `sample`, the switch's flow counters, the driver's moves.
 */
import { type Phase, VmHistory } from './history.ts';
import type { Policy } from './policy/policy.ts';
import { Runs } from './runs.ts';
import { interval, type Reading, readReport } from './sample.ts';

/** Where reports come from. Both give unchecked answers, and may fail: then nothing is known. */
export interface ReportSource {
  /** The vm-agent's `sample`. */
  guest(signal: AbortSignal): Promise<unknown>;
  /**
   * `{payloadBytes}`: what the switch counted to and from the VM, without trivial traffic. A switch can't tell a packet's length, but its flags:
   * of TCP the bytes of flows that match `tcp_flags=+psh`, which each write ends with, and neither bare ACKs, keep-alives nor scans have;
   * of UDP all; nothing of ICMP and ARP; and nothing of the policy's `healthChecks`, by flows of a higher priority.
   */
  network(signal: AbortSignal): Promise<unknown>;
}

export const SAMPLE_EVERY_MS = 10_000;
const ANSWER_WITHIN_MS = 5000;
/** Twenty minutes of samples. Room that is there from the start leaves no holes in the heap of ten thousand VMs. */
const USUAL_RUNS = 120;

export class Collector {
  readonly history: VmHistory;
  #last: Reading | null = null;

  /**
   * @param phase as the driver has it now
   * @param kept what `history.toRecord()` gave before a restart, unchecked
   */
  constructor(now: number, phase: Phase = 'awake', kept: unknown = null) {
    this.history = VmHistory.restore(now, phase, kept, new Runs(USUAL_RUNS));
  }

  /** Asks both sources, and enters what they say. Never throws. */
  async collect(source: ReportSource, policy: Policy): Promise<void> {
    const signal = AbortSignal.timeout(ANSWER_WITHIN_MS);
    const [guest, network] = await Promise.allSettled([source.guest(signal), source.network(signal)]);
    const told = (result: PromiseSettledResult<unknown>) =>
      result.status === 'fulfilled' ? result.value : null;
    this.enter(readReport(told(guest), told(network), Date.now(), performance.now()), policy);
  }

  enter(reading: Reading, policy: Policy): void {
    const sample = this.#last && interval(this.#last, reading);
    this.#last = reading;
    if (sample) this.history.observe(sample, policy);
  }

  /** The VM was away: what it reports next says nothing of the time between. */
  forget(): void {
    this.#last = null;
  }
}
