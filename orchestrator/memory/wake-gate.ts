/**
 * Lets the wakes of one host through in their order, as its free memory allows. A wake that is alone is never kept waiting, and
 * none longer than its bound: when memory is short all the same, a slow VM is better than none.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { mayWake } from './ledger.ts';

export interface WakeGateDeps {
  /** The host's memory now. */
  memory(): Promise<{ totalBytes: number; availableBytes: number }>;
  /** Milliseconds after which a wake goes on whatever the memory. */
  boundMs?: number;
}

const BOUND_MS = 10_000;
const POLL_MS = 50;

/** A wake that has not said it is done by then is stuck, or its end was missed. */
const FORGOTTEN_MS = 120_000;

interface Turn {
  vm: string;
  since: number;
  /** Asked only when another wake has to know: walking a VM's memory takes time that a wake has not. */
  neededBytes(): Promise<number>;
}

export class WakeGate {
  readonly #deps: WakeGateDeps;
  readonly #waiting: Turn[] = [];
  readonly #underWay = new Map<string, Turn>();

  constructor(deps: WakeGateDeps) {
    this.#deps = deps;
  }

  /** VMs whose wake waits, in their order. */
  get waiting(): string[] {
    return this.#waiting.map(({ vm }) => vm);
  }

  /** Resolves when the VM may be switched on, with how long that took. `done` must follow. */
  async enter(vm: string, neededBytes: () => Promise<number>): Promise<number> {
    const since = performance.now();
    const turn = { vm, since, neededBytes: once(() => neededBytes().catch(() => 0)) };
    this.#forget(since);
    // The way of nearly every wake: nothing is asked, nothing waited for.
    if (this.#underWay.size === 0 && this.#waiting.length === 0) {
      this.#underWay.set(vm, turn);
      return 0;
    }
    this.#waiting.push(turn);
    try {
      while (!(await this.#isNext(turn))) await delay(POLL_MS);
    } finally {
      this.#waiting.splice(this.#waiting.indexOf(turn), 1);
    }
    const now = performance.now();
    this.#underWay.set(vm, { ...turn, since: now });
    return now - since;
  }

  /** The VM has what it needed, or will not be woken after all; safe to repeat. */
  done(vm: string): void {
    this.#underWay.delete(vm);
  }

  async #isNext(turn: Turn): Promise<boolean> {
    const { memory, boundMs = BOUND_MS } = this.#deps;
    if (performance.now() - turn.since > boundMs) return true;
    if (this.#waiting[0] !== turn) return false;
    if (this.#underWay.size === 0) return true;
    const [now, needed, ...reserved] = await Promise.all([
      memory().catch(() => null),
      turn.neededBytes(),
      ...[...this.#underWay.values()].map((other) => other.neededBytes()),
    ]);
    const reservedBytes = reserved.reduce((all, bytes) => all + bytes, 0);
    return now !== null && this.#waiting[0] === turn && mayWake(now, reservedBytes, needed);
  }

  #forget(now: number): void {
    for (const [vm, { since }] of this.#underWay) if (now - since > FORGOTTEN_MS) this.#underWay.delete(vm);
  }
}

function once<T>(work: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | null = null;
  return () => {
    result ??= work();
    return result;
  };
}
