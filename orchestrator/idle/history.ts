/**
 * All that `decide` knows of one VM: its meters, what it will do by itself, its wakes, and when it is usually used.
 * Changed by `observe` (a sample) and `moved` (a park or a wake) alone; `decide` only reads.
 */
import type { Policy } from './policy/policy.ts';
import { Runs } from './runs.ts';
import { METERS, type Timer } from './signals.ts';
import { Uses, type UsesRecord } from './uses.ts';

/** One interval of a VM as the collector has worked it out (sample.ts): rates, not counters. */
export interface Sample {
  startMs: number;
  endMs: number;
  /** One value per meter, NaN where it is not known. */
  values: ArrayLike<number>;
  /** null: not known. */
  timers: readonly Timer[] | null;
  /** When the DHCP lease ends; `none` with a fixed address, null when it is not known. */
  leaseMs: number | 'none' | null;
}

/** What the driver does with the VM. `moving` is unparking. */
export type Phase = 'awake' | 'parking' | 'parked' | 'moving' | 'stuck';

/** Why a VM woke: a use (a call, a connection), what was known before (timer, lease, forecast), or an operator. */
export type WakeCause = 'use' | 'timer' | 'lease' | 'forecast' | 'manual';

/** A park that ended: how long it lasted, and why. */
interface Wake {
  atMs: number;
  parkedMs: number;
  cause: WakeCause;
}

/** A park that could not be: what was in its way, and until when none is tried again. */
export interface Refusal {
  code: string;
  message: string;
  /** In a row. */
  times: number;
  untilMs: number;
}

/** A `VmHistory` over a restart, as JSON. */
export interface HistoryRecord {
  uses: UsesRecord;
  timers: readonly Timer[] | null;
  leaseMs: number | 'none' | null;
  plansAt: number | null;
  wakes: Wake[];
  phaseSince: number;
}

const NETWORK = METERS.indexOf('network');
const SESSIONS = METERS.indexOf('sessions');
const WAKES_KEPT = 16;
/** Between two attempts to park a VM that could not be. */
const LONGEST_PAUSE_MS = 3_600_000;
/** A decision may come a little later than the newest sample. */
const KEPT_BEYOND_MS = 60_000;

export class VmHistory {
  readonly runs: Runs;
  readonly uses: Uses;
  phase: Phase = 'awake';
  /** Since when, in milliseconds since 1970. */
  phaseSince: number;
  timers: readonly Timer[] | null = null;
  /** The last one that fired; its work may not show in the meters yet. */
  lastFired: Timer | null = null;
  leaseMs: number | 'none' | null = null;
  /** When timers and lease were told. */
  plansAt = Number.NEGATIVE_INFINITY;
  /** Free memory of the VM's host and memory that the VM takes when it wakes; null: not known. */
  hostFreeBytes: number | null = null;
  memoryBytes: number | null = null;
  readonly wakes: Wake[] = [];
  /** Of the last park; null when it went well, or the policy has changed since. */
  refusal: Refusal | null = null;

  /** @param now since when the VM is watched; nothing is known of the time before, but what a record keeps */
  constructor(now: number, uses = new Uses(), runs = new Runs()) {
    this.phaseSince = now;
    this.runs = runs;
    this.uses = uses;
    uses.skipTo(now);
  }

  get lastWake(): Wake | null {
    return this.wakes.at(-1) ?? null;
  }

  observe(sample: Sample, policy: Policy): void {
    const { startMs, endMs, values } = sample;
    this.runs.push(startMs, endMs, values, policy.windowMs + KEPT_BEYOND_MS);
    for (const timer of this.timers ?? []) {
      if (timer.atMs <= endMs && timer.atMs > (this.lastFired?.atMs ?? Number.NEGATIVE_INFINITY))
        this.lastFired = timer;
    }
    this.timers = sample.timers;
    this.leaseMs = sample.leaseMs;
    this.plansAt = endMs;
    if (!(endMs > startMs)) return;
    if (isUse(values, policy)) this.uses.note(startMs, endMs);
    else this.uses.advance(endMs);
  }

  /**
   * The VM has come into another phase at `now`.
   * @param cause of a wake, or of the end of a park that was taken back; null when nobody wanted the VM, but the park could not be
   */
  moved(phase: Phase, now: number, cause: WakeCause | null = 'manual'): void {
    const wakes = phase === 'awake' && (this.phase === 'moving' || this.phase === 'parked');
    const bounces = phase === 'awake' && this.phase === 'parking';
    if (phase === 'parked') this.refusal = null;
    if (phase === 'moving' && this.phase === 'parked') this.#parkEnded(now, cause);
    else if (wakes && this.phase === 'parked') this.#parkEnded(now, cause);
    // Traffic came while it parked: no memory was saved, and somebody waited.
    else if (bounces && cause !== null) this.#parkEnded(now, cause, 0);
    // A wake that failed leaves it parked as it was: a timer that it was for is still due.
    const isBack = phase === 'parked' && this.phase === 'moving';
    this.phase = phase;
    if (!isBack) this.phaseSince = now;
  }

  /** A park could not be. Its reason may pass, so it is tried again: after a window, then twice as long each time. */
  refused({ code, message }: { code: string; message: string }, now: number, { windowMs }: Policy): void {
    const times = (this.refusal?.times ?? 0) + 1;
    const pauseMs = Math.min(windowMs * 2 ** (times - 1), Math.max(windowMs, LONGEST_PAUSE_MS));
    this.refusal = { code, message, times, untilMs: now + pauseMs };
  }

  /** What must survive a restart: what was learned, the wakes, and what a parked VM can't tell again. */
  toRecord(): HistoryRecord {
    const { timers, leaseMs, plansAt, wakes, phaseSince } = this;
    return {
      uses: this.uses.toRecord(),
      timers,
      leaseMs,
      plansAt: finite(plansAt),
      wakes: [...wakes],
      phaseSince,
    };
  }

  /**
   * @param phase as the driver has it now
   * @param record what `toRecord` gave before a restart, unchecked; of a damaged one nothing is taken
   */
  static restore(now: number, phase: Phase, record: unknown, runs = new Runs()): VmHistory {
    const { uses, timers, leaseMs, plansAt, wakes, phaseSince } = (record ?? {}) as Partial<HistoryRecord>;
    const history = new VmHistory(now, Uses.fromRecord(uses) ?? new Uses(), runs);
    history.phase = phase;
    const areTimers =
      Array.isArray(timers) && timers.every((timer) => isTime(timer?.atMs) && typeof timer.name === 'string');
    const areWakes =
      Array.isArray(wakes) && wakes.every((wake) => isTime(wake?.atMs) && isTime(wake.parkedMs));
    if (areWakes) history.wakes.push(...wakes.slice(-WAKES_KEPT));
    if (phase === 'awake' || !areTimers || !isTime(plansAt)) return history;
    history.timers = timers;
    history.leaseMs = isTime(leaseMs) || leaseMs === 'none' ? leaseMs : null;
    history.plansAt = plansAt;
    if (isTime(phaseSince)) history.phaseSince = Math.min(phaseSince, now);
    return history;
  }

  #parkEnded(atMs: number, cause: WakeCause | null, parkedMs = atMs - this.phaseSince): void {
    this.wakes.push({ atMs, parkedMs, cause: cause ?? 'manual' });
    if (this.wakes.length > WAKES_KEPT) this.wakes.shift();
  }
}

/** Somebody was there: payload on the wire, or typing. What the guest does by itself is none. */
export function isUse(values: ArrayLike<number>, { thresholds }: Policy): boolean {
  return (
    (values[NETWORK] as number) > thresholds.network || (values[SESSIONS] as number) > thresholds.sessions
  );
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= Number.MAX_SAFE_INTEGER;
}

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
