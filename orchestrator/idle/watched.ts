/** One VM that idle detection attends to: its history, and the policy that holds for it now. */
import type { VmDriver } from '../vm/driver.ts';
import type { Collector, ReportSource } from './collector.ts';
import type { VmHistory } from './history.ts';
import type { VmIdentity } from './policy/document.ts';
import type { PolicyFile } from './policy/file.ts';
import { BUILT_IN, type Policy } from './policy/policy.ts';

/** What the service gives of it. */
export interface Attended extends VmIdentity {
  driver: Pick<VmDriver, 'state' | 'park' | 'wake' | 'abortPark'>;
  source: ReportSource;
}

/** A VM that does not answer is asked again after so many rounds at the latest. */
const LONGEST_SILENCE_ROUNDS = 6;

export class Watched {
  readonly name: string;
  readonly host: string;
  readonly driver: Attended['driver'];
  readonly collector: Collector;
  isAsked = false;
  /** By the monotonic clock. */
  askAgainAt = 0;
  /** When its history was put away. */
  keptAt: number;
  readonly #source: ReportSource;
  readonly #file: Pick<PolicyFile, 'current'> | null;
  #silences = 0;
  #identity: VmIdentity;
  #policy: Policy = BUILT_IN;
  /** Whose policy that is. */
  #document: object | null = null;

  constructor(vm: Attended, collector: Collector, file: Pick<PolicyFile, 'current'> | null, keptAt: number) {
    this.name = vm.name;
    this.host = vm.host;
    this.driver = vm.driver;
    this.collector = collector;
    this.keptAt = keptAt;
    this.#source = vm.source;
    this.#file = file;
    this.#identity = vm;
  }

  get history(): VmHistory {
    return this.collector.history;
  }

  get policy(): Policy {
    const document = this.#file?.current ?? null;
    if (document && document !== this.#document) {
      this.#policy = document.policyFor(this.#identity);
      this.#document = document;
    }
    return this.#policy;
  }

  setMetadata(metadata: Record<string, string>): void {
    this.#identity = { ...this.#identity, metadata };
    this.#document = null;
  }

  /** Never throws. Who does not answer is asked less and less, so that many of them don't take the others' turns; it is not known meanwhile. */
  async ask(everyMs: number): Promise<void> {
    this.isAsked = true;
    const didAnswer = await this.collector.collect(this.#source, this.policy);
    this.isAsked = false;
    this.#silences = didAnswer ? 0 : this.#silences + 1;
    const rounds = didAnswer ? 0 : Math.min(2 ** (this.#silences - 1), LONGEST_SILENCE_ROUNDS) - 1;
    this.askAgainAt = rounds > 0 ? performance.now() + (rounds - 0.5) * everyMs : 0;
  }

  /** It is there again, or has never been away. */
  askSoon(): void {
    this.#silences = 0;
    this.askAgainAt = 0;
  }
}
