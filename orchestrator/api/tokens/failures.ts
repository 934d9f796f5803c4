/**
 * Slows down who guesses: after so many failures an address gets no further answer for a while, right or wrong. What is
 * remembered is bounded; when it is full the oldest is forgotten.
 */
import { SeamlessError } from '../../../common/errors.ts';

export interface FailureLimit {
  failures: number;
  windowMs: number;
  /** Addresses remembered. */
  most: number;
}

const LIMIT: FailureLimit = { failures: 10, windowMs: 60_000, most: 10_000 };

export class Failures {
  readonly #limit: FailureLimit;
  readonly #now: () => number;
  readonly #byAddress = new Map<string, { count: number; sinceMs: number }>();

  constructor(limit: FailureLimit = LIMIT, now: () => number = Date.now) {
    this.#limit = limit;
    this.#now = now;
  }

  /** @throws `RATE_LIMITED` */
  admit(address: string): void {
    const entry = this.#current(address);
    if (!entry || entry.count < this.#limit.failures) return;
    const retryAfterSeconds = Math.ceil((entry.sinceMs + this.#limit.windowMs - this.#now()) / 1000);
    throw new SeamlessError(
      'RATE_LIMITED',
      `Expected fewer than ${this.#limit.failures} failures from ${address} in ${this.#limit.windowMs / 1000} s; try again in ${retryAfterSeconds} s`,
      { details: { retryAfterSeconds } },
    );
  }

  failed(address: string): void {
    const entry = this.#current(address);
    if (entry) {
      entry.count += 1;
      return;
    }
    const [oldest] = this.#byAddress.keys();
    if (this.#byAddress.size >= this.#limit.most && oldest !== undefined) this.#byAddress.delete(oldest);
    this.#byAddress.set(address, { count: 1, sinceMs: this.#now() });
  }

  #current(address: string) {
    const entry = this.#byAddress.get(address);
    if (!entry || this.#now() - entry.sinceMs < this.#limit.windowMs) return entry;
    this.#byAddress.delete(address);
    return undefined;
  }
}
