/** At most so many at once; the others wait in order. sshd allows ten sessions a connection unless told otherwise. */
export class Slots {
  #free: number;
  readonly #queue: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** Waits for a slot; resolves with the function that gives it back. Rejects with `signal`'s reason. */
  take(signal?: AbortSignal): Promise<() => void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const aborted = () => {
        this.#queue.splice(this.#queue.indexOf(given), 1);
        reject(signal?.reason);
      };
      const given = () => {
        signal?.removeEventListener('abort', aborted);
        resolve(() => this.#giveBack());
      };
      if (this.#free > 0) {
        this.#free--;
        return given();
      }
      signal?.addEventListener('abort', aborted, { once: true });
      this.#queue.push(given);
    });
  }

  #giveBack(): void {
    const next = this.#queue.shift();
    if (next) next();
    else this.#free++;
  }
}
