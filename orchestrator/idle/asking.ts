/** Asks VMs once a round, at even distances over the interval, so many at once, and waits for none of them. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Watched } from './watched.ts';

/** Of the interval, for questions; after them a share for the last answers. */
const ASKING_SHARE = 0.6;
const ANSWERING_SHARE = 0.2;
/** With few VMs there is no need to spread them further. */
const MOST_APART_MS = 20;
/** Calls that may be under way at once; those to VMs that don't answer end after five seconds. */
const MOST_AT_ONCE = 500;

export class Asking {
  readonly #everyMs: number;
  readonly #ended: AbortSignal;
  #underWay = 0;
  /** Who was not asked in one round is first in the next. */
  #next = 0;

  constructor(everyMs: number, ended: AbortSignal) {
    this.#everyMs = everyMs;
    this.#ended = ended;
  }

  /** Resolves when all have answered, or it is time to decide without the others. */
  async round(vms: Iterable<Watched>): Promise<void> {
    const startedAt = performance.now();
    const awake = [...vms].filter((vm) => vm.history.phase === 'awake' && vm.askAgainAt <= startedAt);
    const apartMs = Math.min(MOST_APART_MS, (this.#everyMs * ASKING_SHARE) / Math.max(awake.length, 1));
    const endAt = startedAt + this.#everyMs * (ASKING_SHARE + ANSWERING_SHARE);
    const answers: Promise<void>[] = [];
    for (let count = 0; count < awake.length && !this.#ended.aborted; ) {
      const due = Math.min(awake.length, Math.floor((performance.now() - startedAt) / apartMs) + 1);
      for (; count < due && this.#underWay < MOST_AT_ONCE; count++) {
        const vm = awake[this.#next++ % awake.length] as Watched;
        if (!vm.isAsked && vm.history.phase === 'awake') answers.push(this.ask(vm));
      }
      const now = performance.now();
      if (now > endAt) break;
      if (count < awake.length) await pause(Math.max(2, startedAt + count * apartMs - now), this.#ended);
    }
    const enough = new AbortController();
    await Promise.race([Promise.all(answers), pause(endAt - performance.now(), enough.signal)]);
    enough.abort();
  }

  async ask(vm: Watched): Promise<void> {
    this.#underWay++;
    await vm.ask(this.#everyMs);
    this.#underWay--;
  }
}

/** Resolves early when the signal aborts. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(Math.max(0, ms), null, { signal }).catch(() => {});
}
