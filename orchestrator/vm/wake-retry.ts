/** When a wake that failed is tried again: after a second, then twice as long each time, up to a minute. */
const FIRST_MS = 1000;
const MOST_MS = 60_000;

export class WakeRetry {
  #failures = 0;
  #timer: NodeJS.Timeout | null = null;

  get isWaiting(): boolean {
    return this.#timer !== null;
  }

  /** A wake has failed: `again` is called when it is time. */
  failed(again: () => void): void {
    const afterMs = Math.min(MOST_MS, FIRST_MS * 2 ** this.#failures);
    this.#failures += 1;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      again();
    }, afterMs);
  }

  /** A wake begins: nothing is waited for. */
  cancel(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
  }

  /** A wake has succeeded: the next failure is a first one. */
  succeeded(): void {
    this.#failures = 0;
  }
}
