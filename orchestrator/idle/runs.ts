/**
 * The meters of one VM over time, as runs: stretches with a start, an end and one value per meter (NaN: not known). A ring of typed
 * arrays that grows as needed, because ten thousand VMs have one each.
 *
 * The runs are without holes: a hole is filled by a run of which nothing is known, so that it counts as busy. Equal neighbours are one
 * run, and neighbours shorter together than a 360th of what is kept are merged by the greater value, which errs towards busy.
 */
import { METERS } from './signals.ts';

const WIDTH = METERS.length;
const FINEST_SHARE = 360;
const NOTHING_KNOWN: readonly number[] = METERS.map(() => Number.NaN);

export class Runs {
  /** Of the oldest run; each other one begins where the one before it ends. */
  #start = 0;
  #ends: Float64Array;
  #values: Float32Array;
  /** Slot of the oldest run. */
  #head = 0;
  #length = 0;

  /** @param capacity runs for which there is room before the arrays grow */
  constructor(capacity = 16) {
    this.#ends = new Float64Array(capacity);
    this.#values = new Float32Array(capacity * WIDTH);
  }

  get length(): number {
    return this.#length;
  }

  /** The `back`th run before the newest; 0 is the newest. */
  start(back: number): number {
    return back === this.#length - 1 ? this.#start : this.end(back + 1);
  }

  end(back: number): number {
    return this.#ends[this.#slot(back)] as number;
  }

  value(back: number, meter: number): number {
    return this.#values[this.#slot(back) * WIDTH + meter] as number;
  }

  /**
   * Appends what held from `start` to `end`. Time that runs backwards makes all that is known worthless.
   * @param values one per meter; NaN where it is not known
   * @param keepMs how far back anybody will look
   */
  push(start: number, end: number, values: ArrayLike<number>, keepMs: number): void {
    if (!(end > start)) return this.clear();
    if (this.#length > 0) {
      const last = this.end(0);
      if (start < last - 1) this.clear();
      else if (start > last + 1) this.#append(last, start, NOTHING_KNOWN, keepMs);
    }
    this.#append(start, end, values, keepMs);
    while (this.#length > 1 && this.end(this.#length - 1) < end - keepMs) {
      this.#start = this.end(this.#length - 1);
      this.#head = (this.#head + 1) % this.#ends.length;
      this.#length--;
    }
  }

  clear(): void {
    this.#length = 0;
  }

  #append(start: number, end: number, values: ArrayLike<number>, keepMs: number): void {
    if (this.#length > 0) {
      const newest = this.#slot(0);
      if (this.#isEqual(newest, values)) {
        this.#ends[newest] = end;
        return;
      }
      if (end - this.start(0) <= keepMs / FINEST_SHARE) {
        this.#ends[newest] = end;
        for (let meter = 0; meter < WIDTH; meter++) {
          const at = newest * WIDTH + meter;
          this.#values[at] = Math.max(this.#values[at] as number, values[meter] as number); // NaN stays NaN
        }
        return;
      }
    }
    if (this.#length === this.#ends.length) this.#grow();
    const slot = (this.#head + this.#length) % this.#ends.length;
    if (this.#length === 0) this.#start = start;
    this.#length++;
    this.#ends[slot] = end;
    for (let meter = 0; meter < WIDTH; meter++)
      this.#values[slot * WIDTH + meter] = values[meter] ?? Number.NaN;
  }

  #slot(back: number): number {
    const at = this.#head + this.#length - 1 - back;
    const capacity = this.#ends.length;
    return at >= capacity ? at - capacity : at;
  }

  #isEqual(slot: number, values: ArrayLike<number>): boolean {
    for (let meter = 0; meter < WIDTH; meter++) {
      const old = this.#values[slot * WIDTH + meter] as number;
      if (!Object.is(old, Math.fround(values[meter] ?? Number.NaN))) return false;
    }
    return true;
  }

  /** Doubles the arrays and lays the oldest run at the beginning. */
  #grow(): void {
    const capacity = this.#ends.length;
    const ends = new Float64Array(capacity * 2);
    const values = new Float32Array(capacity * 2 * WIDTH);
    for (let i = 0; i < this.#length; i++) {
      const slot = (this.#head + i) % capacity;
      ends[i] = this.#ends[slot] as number;
      values.set(this.#values.subarray(slot * WIDTH, (slot + 1) * WIDTH), i * WIDTH);
    }
    this.#ends = ends;
    this.#values = values;
    this.#head = 0;
  }
}
