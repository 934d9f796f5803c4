/**
 * Keeps histories over a restart, in the journal's file: soon after each move, since a parked VM can't tell its timers again, now and then
 * for what was learned, and at the end.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { asSeamlessError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { Journal } from '../saga/journal.ts';
import type { Watched } from './watched.ts';

/** What was learned since may be lost by a crash. */
export const KEEP_EVERY_MS = 3_600_000;
const MOST_AT_ONCE = 100;

export class Keeping {
  readonly #journal: Pick<Journal, 'keep'>;
  readonly #log: Log;
  readonly #moved = new Set<Watched>();
  #ended = false;

  constructor(journal: Pick<Journal, 'keep'>, log: Log) {
    this.#journal = journal;
    this.#log = log;
  }

  /** Not at once: a wake does not wait for the disk. */
  soon(vm: Watched): void {
    if (this.#moved.size === 0) setImmediate(() => this.#keepMoved());
    this.#moved.add(vm);
  }

  /** Some of those that have not been kept for long. */
  some(vms: Iterable<Watched>): void {
    const before = Date.now() - KEEP_EVERY_MS;
    const due: Watched[] = [];
    for (const vm of vms) {
      if (vm.keptAt < before && due.push(vm) === MOST_AT_ONCE) break;
    }
    this.#keep(due);
  }

  async end(vms: Iterable<Watched>): Promise<void> {
    this.#ended = true;
    const all = [...vms];
    for (let at = 0; at < all.length; at += MOST_AT_ONCE) {
      this.#keep(all.slice(at, at + MOST_AT_ONCE));
      await turn();
    }
  }

  #keepMoved(): void {
    const moved = [...this.#moved];
    this.#moved.clear();
    if (!this.#ended) this.#keep(moved);
  }

  #keep(vms: readonly Watched[]): void {
    if (vms.length === 0) return;
    try {
      this.#journal.keep(new Map(vms.map(({ name, history }) => [name, history.toRecord()])));
    } catch (thrown) {
      this.#log.error('idle.keeping', { error: asSeamlessError(thrown) });
    }
    for (const vm of vms) vm.keptAt = Date.now();
  }
}
