/**
 * Takes what is reported of one VM and keeps its history: the live counterpart of a trace. Where reports come from is the caller's: the
 * vm-agent's `sample`, the switch's flow counters, the driver's moves.
 */
import { type Phase, VmHistory } from './history.ts';
import type { Policy } from './policy/policy.ts';
import { Runs } from './runs.ts';
import { interval, type Reading, readReport } from './sample.ts';

/** Where reports come from (report-source.ts). All give unchecked answers, and may fail: then nothing is known. */
export interface ReportSource {
  /** The vm-agent's `sample`. */
  guest(signal: AbortSignal): Promise<unknown>;
  /** `{payloadBytes}`: what the switch counted to and from the VM, without trivial traffic (ovs/payload-flows.ts). */
  network(signal: AbortSignal): Promise<unknown>;
  /** `{dirtyRate}`: bytes of memory per second that the guest writes to; `'none'` from a hypervisor that can't tell. */
  hypervisor(signal: AbortSignal): Promise<unknown>;
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
   * @param isAsked false when nobody will ever ask: then there is no room to keep either
   */
  constructor(now: number, phase: Phase = 'awake', kept: unknown = null, isAsked = true) {
    this.history = VmHistory.restore(now, phase, kept, new Runs(isAsked ? USUAL_RUNS : 1));
  }

  /** Asks all sources, and enters what they say. Gives whether the guest said anything; never throws. */
  async collect(source: ReportSource, policy: Policy): Promise<boolean> {
    const signal = AbortSignal.timeout(ANSWER_WITHIN_MS);
    const asked = [source.guest(signal), source.network(signal), source.hypervisor(signal)];
    const [guest, network, hypervisor] = (await Promise.allSettled(asked)).map((result) =>
      result.status === 'fulfilled' ? result.value : null,
    );
    this.enter(readReport(guest, network, hypervisor, Date.now(), performance.now()), policy);
    return guest !== null;
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
