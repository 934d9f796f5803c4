/** What parked VMs have given back: what each had before its park, less what it kept. From the journal, also after a restart. */
import type { ManagedVm } from '../api/vms.ts';
import type { Journal, JournalRecord } from '../saga/journal.ts';
import type { VmState } from '../vm/state.ts';

const GIBIBYTE = 2 ** 30;
const HOUR_MS = 3600_000;

export class MemorySaved {
  readonly #now: () => number;
  /** Of parked VMs. */
  readonly #saved = new Map<string, number>();
  /** Measured by a park that has not ended. */
  readonly #measured = new Map<string, number>();
  #bytes = 0;
  #byteMs = 0;
  #sinceMs: number;

  constructor(vms: ReadonlyMap<string, ManagedVm>, journal: Journal, now: () => number = Date.now) {
    this.#now = now;
    this.#sinceMs = now();
    for (const [vm, { driver }] of vms) {
      if (driver.state.kind !== 'parked') continue;
      const park = journal.lastSaga(vm, 'park');
      for (const record of park ? journal.ofSaga(park) : []) this.hear(record);
      this.#change(vm, this.#measured.get(vm) ?? 0);
    }
  }

  bytes(): number {
    return this.#bytes;
  }

  gibibyteHours(): number {
    this.#count();
    return this.#byteMs / GIBIBYTE / HOUR_MS;
  }

  hear({ vm, event, body }: JournalRecord): void {
    if (event === 'succeeded') {
      const { residentBeforeBytes: before, residentAfterBytes: after } = (body.output ?? {}) as {
        residentBeforeBytes?: number;
        residentAfterBytes?: number;
      };
      if (before !== undefined && after !== undefined) this.#measured.set(vm, Math.max(0, before - after));
    }
    if (event !== 'vmState') return;
    const { kind } = body.state as VmState;
    this.#change(vm, kind === 'parked' ? (this.#measured.get(vm) ?? 0) : 0);
    if (kind === 'awake') this.#measured.delete(vm);
  }

  #change(vm: string, bytes: number): void {
    this.#count();
    this.#bytes += bytes - (this.#saved.get(vm) ?? 0);
    if (bytes === 0) this.#saved.delete(vm);
    else this.#saved.set(vm, bytes);
  }

  #count(): void {
    const now = this.#now();
    this.#byteMs += this.#bytes * Math.max(0, now - this.#sinceMs);
    this.#sinceMs = now;
  }
}
