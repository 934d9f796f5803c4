/**
 * Judges one meter over a window that ends now. Pure. A value above the threshold that is known is busy, whatever is not known
 * besides; what is not known is never quiet: a hole, a window that reaches back beyond the first sample, samples that are late.
 */
import type { Runs } from './runs.ts';
import type { SignalState } from './signals.ts';

/** The newest sample may be this old: three of ten seconds may be late or lost in a row. */
export const STALE_MS = 35_000;
/** Over so short a time one value above the threshold makes every meter busy: fast to notice use. */
export const RECENT_MS = 30_000;

export interface Judgement {
  state: SignalState;
  /** null when nothing in the window is known. */
  value: number | null;
  /** When this would be quiet if the meter stayed quiet from now on. */
  quietAt: number;
}

/** Busy when the meter was above the threshold once in the window. */
export function judgeTrace(
  runs: Runs,
  meter: number,
  threshold: number,
  windowMs: number,
  now: number,
): Judgement {
  const from = now - windowMs;
  let peak = Number.NEGATIVE_INFINITY;
  let lastAbove = Number.NEGATIVE_INFINITY;
  let lastUnknown = unknownEdge(runs, from, now);
  for (let back = 0; back < runs.length; back++) {
    const end = runs.end(back);
    if (end <= from) break;
    const value = runs.value(back, meter);
    if (Number.isNaN(value)) lastUnknown = Math.max(lastUnknown, end);
    else if (value > peak) peak = value;
    if (value > threshold) lastAbove = Math.max(lastAbove, end);
  }
  const quietAt = Math.max(lastAbove, lastUnknown) + windowMs;
  return verdict(lastAbove > from, lastUnknown > from, peak, Math.max(quietAt, now));
}

/**
 * Busy when the meter was above the threshold for more than a share of the window, or at all just now.
 * @param wantsValue else `value` is null, unless it is the one of just now
 */
export function judgeLevel(
  runs: Runs,
  meter: number,
  threshold: number,
  windowMs: number,
  percentile: number,
  now: number,
  wantsValue = true,
): Judgement {
  const recent = judgeTrace(runs, meter, threshold, Math.min(RECENT_MS, windowMs), now);
  const from = now - windowMs;
  const allowed = windowMs * (1 - percentile / 100);
  let above = 0;
  let quietAt = recent.quietAt;
  let lastUnknown = unknownEdge(runs, from, now);
  top.start(allowed);
  for (let back = 0; back < runs.length; back++) {
    const end = runs.end(back);
    if (end <= from) break;
    const value = runs.value(back, meter);
    if (Number.isNaN(value)) {
      lastUnknown = Math.max(lastUnknown, end);
      continue;
    }
    const ms = end - Math.max(runs.start(back), from);
    if (value > threshold) {
      // The window has to move on until no more than `allowed` of this remains in it.
      if (above <= allowed && above + ms > allowed)
        quietAt = Math.max(quietAt, end - (allowed - above) + windowMs);
      above += ms;
    }
    if (wantsValue) top.add(value, ms);
  }
  if (lastUnknown > from) quietAt = Math.max(quietAt, lastUnknown + windowMs);
  const busy = recent.state === 'busy' || above > allowed;
  const value = recent.state === 'busy' ? (recent.value as number) : top.value();
  return verdict(busy, lastUnknown > from, value, Math.max(quietAt, now));
}

/** The latest time of which nothing is known because no sample is there: before the first, or since a late one. */
function unknownEdge(runs: Runs, from: number, now: number): number {
  if (runs.length === 0) return now;
  const newest = runs.end(0);
  // A sample from the future is a clock that was set back.
  if (newest < now - STALE_MS || newest > now + 1000) return now;
  const oldest = runs.start(runs.length - 1);
  return oldest > from ? oldest : Number.NEGATIVE_INFINITY;
}

function verdict(busy: boolean, unknown: boolean, value: number, quietAt: number): Judgement {
  const known = value === Number.NEGATIVE_INFINITY ? null : value;
  return { state: busy ? 'busy' : unknown ? 'unknown' : 'quiet', value: known, quietAt };
}

/** The greatest values, as many as it takes to fill more than `allowed` ms: the least of them is the percentile. */
class Top {
  readonly #values: number[] = [];
  readonly #ms: number[] = [];
  #length = 0;
  #sum = 0;
  #allowed = 0;

  start(allowed: number): void {
    this.#length = 0;
    this.#sum = 0;
    this.#allowed = allowed;
  }

  add(value: number, ms: number): void {
    const values = this.#values;
    const all = this.#ms;
    if (this.#sum > this.#allowed && value <= (values[this.#length - 1] as number)) return;
    let at = this.#length++;
    for (; at > 0 && (values[at - 1] as number) < value; at--) {
      values[at] = values[at - 1] as number;
      all[at] = all[at - 1] as number;
    }
    values[at] = value;
    all[at] = ms;
    this.#sum += ms;
    while (this.#sum - (all[this.#length - 1] as number) > this.#allowed) {
      this.#sum -= all[--this.#length] as number;
    }
  }

  /** -Infinity when too little is known for one. */
  value(): number {
    return this.#sum > this.#allowed ? (this.#values[this.#length - 1] as number) : Number.NEGATIVE_INFINITY;
  }
}

// Kept, because a round asks forty thousand times.
const top = new Top();
