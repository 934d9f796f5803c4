/**
 * All that `decide` knows of one VM: its meters, what it will do by itself, its wakes, and when it is usually used.
 * Changed by `observe` (a sample) and `moved` (a park or a wake) alone; `decide` only reads.
 */
import type { Policy } from './policy/policy.ts';
import { Runs } from './runs.ts';
import { METERS, type Timer } from './signals.ts';
import { Uses } from './uses.ts';

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

const NETWORK = METERS.indexOf('network');
const SESSIONS = METERS.indexOf('sessions');
const WAKES_KEPT = 16;
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
   * @param cause of a wake, or of the end of a park that was taken back
   */
  moved(phase: Phase, now: number, cause: WakeCause = 'manual'): void {
    const wakes = phase === 'awake' && (this.phase === 'moving' || this.phase === 'parked');
    const bounces = phase === 'awake' && this.phase === 'parking';
    if (phase === 'moving' && this.phase === 'parked') this.#parkEnded(now, cause);
    else if (wakes && this.phase === 'parked') this.#parkEnded(now, cause);
    // Traffic came while it parked: no memory was saved, and somebody waited.
    else if (bounces) this.#parkEnded(now, cause, 0);
    this.phase = phase;
    this.phaseSince = now;
  }

  #parkEnded(atMs: number, cause: WakeCause, parkedMs = atMs - this.phaseSince): void {
    this.wakes.push({ atMs, parkedMs, cause });
    if (this.wakes.length > WAKES_KEPT) this.wakes.shift();
  }
}

/** Somebody was there: payload on the wire, or typing. What the guest does by itself is none. */
export function isUse(values: ArrayLike<number>, { thresholds }: Policy): boolean {
  return (
    (values[NETWORK] as number) > thresholds.network || (values[SESSIONS] as number) > thresholds.sessions
  );
}
