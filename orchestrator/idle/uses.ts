/**
 * When a VM is used, learned: a histogram over the 168 hours of a week (UTC). For each hour it keeps in how many weeks it was seen and used,
 * how often a use began in it, and how early. Older weeks fade, so that a habit given up is forgotten in about a month.
 *
 * What has been seen of one hour is little after a few weeks, so its chance leans on the same hour of the other days of its kind (weekdays,
 * weekend), as on another week and a half of observation. With nothing seen the chance is a half: no confidence either way.
 */
const HOUR = 3_600_000;
const WEEK_HOURS = 168;
/** Weight of the past at each new week. */
const FADING = 0.8;
/** Weeks of observation that the other days count for. */
const LEANING = 1.5;
/** A pause as long as this ends a use. */
const PAUSE_MS = 5 * 60_000;
/** How far the earliest beginning moves towards a later one, each time. An earlier one counts at once. */
const LATER = 0.25;
/** How far the usual beginning moves towards each one. */
const USUAL = 0.3;
/** A beginning that usually comes so long after the earliest one is not foreseen: to wait for it would cost more than it spares. */
const MOST_SPREAD_MS = 20 * 60_000;
/** 1970-01-01 was a Thursday; hour 0 is Sunday's first. */
const EPOCH_HOUR = 4 * 24;

export interface Forecast {
  /** When the VM is expected to be used next; null when nothing is expected in the week to come. */
  nextUse: number | null;
  /** 0 to 1: the chance of the use, or of none when `nextUse` is null. */
  confidence: number;
  /** The use begins a period of use, at a time that is known well enough to be awake for it. */
  begins: boolean;
  /** This hour and the next one are expected to pass without a use. */
  quiet: boolean;
}

/** What `Uses` keeps over a restart. */
export interface UsesRecord {
  seen: number[];
  used: number[];
  onsets: number[];
  first: number[];
  usual: number[];
}

export class Uses {
  // Columns of one array: ten thousand VMs have these.
  readonly #table = new Float32Array(WEEK_HOURS * 6);
  readonly #seen = this.#table.subarray(0, WEEK_HOURS);
  readonly #used = this.#table.subarray(WEEK_HOURS, WEEK_HOURS * 2);
  readonly #onsets = this.#table.subarray(WEEK_HOURS * 2, WEEK_HOURS * 3);
  /** Milliseconds into the hour at which its use begins: at the earliest, and usually. */
  readonly #first = this.#table.subarray(WEEK_HOURS * 3, WEEK_HOURS * 4);
  readonly #usual = this.#table.subarray(WEEK_HOURS * 4, WEEK_HOURS * 5);
  /** Kept, since it is asked for far more often than it changes. */
  readonly #chance = this.#table.subarray(WEEK_HOURS * 5).fill(0.5);
  #hour = -1;
  #hourUsed = false;
  #hourOnsets = 0;
  #hourFirst = 0;
  #lastUse = Number.NEGATIVE_INFINITY;
  #cache = { hour: -1, confidence: -1, ahead: -1 };

  /** Milliseconds since 1970; -Infinity when there was none. */
  get lastUse(): number {
    return this.#lastUse;
  }

  /** The VM has been watched, awake or parked, until `now`. */
  advance(now: number): void {
    const hour = Math.floor(now / HOUR);
    if (this.#hour < 0 || hour < this.#hour) this.#hour = hour;
    // After a longer absence only its last four weeks would be left.
    if (hour - this.#hour > 4 * WEEK_HOURS) this.#hour = hour - 4 * WEEK_HOURS;
    while (this.#hour < hour) this.#close();
  }

  /** Nobody watched until `now`: what lies between says nothing. */
  skipTo(now: number): void {
    this.#hour = Math.floor(now / HOUR);
    this.#hourUsed = false;
    this.#hourOnsets = 0;
  }

  /** Somebody used the VM from `from` to `to`. */
  note(from: number, to: number): void {
    this.advance(from);
    const isOnset = from - this.#lastUse > PAUSE_MS;
    if (isOnset) this.#hourOnsets++;
    this.#use(from);
    while ((this.#hour + 1) * HOUR < to) {
      this.#close();
      this.#use(this.#hour * HOUR);
    }
    this.#lastUse = Math.max(this.#lastUse, to);
  }

  /** The chance, 0 to 1, that the VM is used in that hour of the week. */
  chance(slot: number): number {
    return this.#chance[slot] as number;
  }

  /** @param confidence the chance, 0 to 1, from which a use is expected, and of no use from which none is */
  forecast(now: number, confidence: number): Forecast {
    const hour = Math.floor(now / HOUR);
    const current = this.chance(slotOf(hour));
    const following = this.chance(slotOf(hour + 1));
    const quiet = 1 - current >= confidence && 1 - following >= confidence;
    if (current >= confidence) {
      const isFirst = this.chance(slotOf(hour - 1)) < confidence && this.#lastUse < hour * HOUR;
      const { atMs, begins } = this.#onsetOf(hour, confidence);
      if (isFirst && atMs > now) return { nextUse: atMs, confidence: current, begins, quiet };
      const slot = slotOf(hour);
      const perHour = (this.#onsets[slot] as number) / Math.max(this.#seen[slot] as number, 1);
      if (perHour > 0) return { nextUse: now + HOUR / perHour, confidence: current, begins: false, quiet };
    }
    const ahead = this.#nextPeriod(hour, confidence);
    if (ahead === 0)
      return { nextUse: null, confidence: 1 - Math.max(current, following), begins: false, quiet };
    const { atMs, begins } = this.#onsetOf(hour + ahead, confidence);
    return { nextUse: atMs, confidence: this.chance(slotOf(hour + ahead)), begins, quiet };
  }

  toRecord(): UsesRecord {
    // A Float32 in full has up to twenty digits, and ten thousand VMs have these; a thousandth of a week, and a millisecond, will do.
    const column = (values: Float32Array, precision: number) =>
      Array.from(values, (value) => Math.round(value * precision) / precision);
    return {
      seen: column(this.#seen, 1000),
      used: column(this.#used, 1000),
      onsets: column(this.#onsets, 1000),
      first: column(this.#first, 1),
      usual: column(this.#usual, 1),
    };
  }

  /** @returns null when the record is not one, so that learning begins anew */
  static fromRecord(record: unknown): Uses | null {
    const uses = new Uses();
    const { seen, used, onsets, first, usual } = (record ?? {}) as Partial<UsesRecord>;
    if (!isColumn(seen) || !isColumn(used) || !isColumn(onsets) || !isColumn(first) || !isColumn(usual))
      return null;
    if (used.some((each, slot) => each > (seen[slot] as number))) return null;
    uses.#seen.set(seen);
    uses.#used.set(used);
    uses.#onsets.set(onsets);
    uses.#first.set(first);
    uses.#usual.set(usual);
    for (let slot = 0; slot < WEEK_HOURS; slot++) uses.#reckon(slot);
    return uses;
  }

  #use(at: number): void {
    if (!this.#hourUsed) this.#hourFirst = at - this.#hour * HOUR;
    this.#hourUsed = true;
  }

  /** Enters the hour that has ended into the histogram. */
  #close(): void {
    const slot = slotOf(this.#hour);
    const wasUsed = (this.#used[slot] as number) > 0;
    this.#seen[slot] = (this.#seen[slot] as number) * FADING + 1;
    this.#used[slot] = (this.#used[slot] as number) * FADING + (this.#hourUsed ? 1 : 0);
    this.#onsets[slot] = (this.#onsets[slot] as number) * FADING + this.#hourOnsets;
    if (this.#hourUsed) {
      const later = this.#hourFirst - (this.#first[slot] as number);
      const off = this.#hourFirst - (this.#usual[slot] as number);
      this.#first[slot] = !wasUsed || later < 0 ? this.#hourFirst : this.#hourFirst - later * (1 - LATER);
      this.#usual[slot] = wasUsed ? (this.#usual[slot] as number) + off * USUAL : this.#hourFirst;
    }
    this.#reckon(slot);
    this.#hour++;
    this.#hourUsed = false;
    this.#hourOnsets = 0;
    this.#cache.hour = -1;
  }

  /** The chances of an hour and of those that lean on it. */
  #reckon(slot: number): void {
    const alike = alikeTo(slot);
    let seen = 0;
    let used = 0;
    for (const each of alike) {
      seen += this.#seen[each] as number;
      used += this.#used[each] as number;
    }
    const others = (used + 1) / (seen + 2);
    for (const each of alike) {
      this.#chance[each] =
        ((this.#used[each] as number) + LEANING * others) / ((this.#seen[each] as number) + LEANING);
    }
  }

  /** Hours until a period of use begins: the first expected hour after one that is not. 0 when there is none in a week. */
  #nextPeriod(hour: number, confidence: number): number {
    const cache = this.#cache;
    if (cache.hour === hour && cache.confidence === confidence) return cache.ahead;
    cache.hour = hour;
    cache.confidence = confidence;
    cache.ahead = 0;
    let before = this.chance(slotOf(hour)) >= confidence;
    for (let ahead = 1; ahead <= WEEK_HOURS; ahead++) {
      const expected = this.chance(slotOf(hour + ahead)) >= confidence;
      if (expected && !before) {
        cache.ahead = ahead;
        break;
      }
      before = expected;
    }
    return cache.ahead;
  }

  /** When the use of that hour begins at the earliest, and whether that tells when it begins. */
  #onsetOf(hour: number, confidence: number): { atMs: number; begins: boolean } {
    const slot = slotOf(hour);
    const wasUsed = (each: number) => (this.#used[each] as number) > 0;
    // An hour that is expected from the other days alone begins as theirs do.
    const slots = wasUsed(slot) ? [slot] : alikeTo(slot).filter(wasUsed);
    let first = HOUR;
    let usual = 0;
    for (const each of slots) {
      first = Math.min(first, this.#first[each] as number);
      usual += (this.#usual[each] as number) / slots.length;
    }
    if (slots.length === 0) return { atMs: hour * HOUR, begins: false };
    // Where use only becomes more frequent by and by, nothing begins.
    const outOfQuiet = 1 - this.chance(slotOf(hour - 2)) >= confidence;
    return { atMs: hour * HOUR + first, begins: outOfQuiet && usual - first <= MOST_SPREAD_MS };
  }
}

function slotOf(hour: number): number {
  return (hour + EPOCH_HOUR) % WEEK_HOURS;
}

/** The same hour of all days of its kind. */
function alikeTo(slot: number): readonly number[] {
  return ALIKE[slot] as readonly number[];
}

const isWeekend = (slot: number) => slot < 24 || slot >= 6 * 24;
const ALIKE: readonly (readonly number[])[] = Array.from({ length: WEEK_HOURS }, (_, slot) =>
  Array.from({ length: 7 }, (_each, day) => day * 24 + (slot % 24)).filter(
    (other) => isWeekend(other) === isWeekend(slot),
  ),
);

function isColumn(value: unknown): value is number[] {
  return (
    Array.isArray(value) &&
    value.length === WEEK_HOURS &&
    value.every((each) => Number.isFinite(each) && each >= 0)
  );
}
