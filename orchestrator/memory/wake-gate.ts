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

interface Turn {
  vm: string;
  neededBytes: number;
  since: number;
}

export class WakeGate {
  readonly #deps: WakeGateDeps;
  readonly #waiting: Turn[] = [];
  readonly #underWay = new Map<string, number>();

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
    // The way of nearly every wake: nothing is asked, nothing waited for.
    if (this.#underWay.size === 0 && this.#waiting.length === 0) {
      this.#underWay.set(vm, 0);
      void neededBytes().then(
        (bytes) => this.#underWay.has(vm) && this.#underWay.set(vm, bytes),
        () => {},
      );
      return 0;
    }
    const turn = { vm, neededBytes: await neededBytes().catch(() => 0), since };
    this.#waiting.push(turn);
    try {
      while (!(await this.#isNext(turn))) await delay(POLL_MS);
    } finally {
      this.#waiting.splice(this.#waiting.indexOf(turn), 1);
    }
    this.#underWay.set(vm, turn.neededBytes);
    return performance.now() - since;
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
    const reserved = [...this.#underWay.values()].reduce((all, bytes) => all + bytes, 0);
    const now = await memory().catch(() => null);
    return now !== null && this.#waiting[0] === turn && mayWake(now, reserved, turn.neededBytes);
  }
}
