/**
 * The border: what agents and the switch report, as one interval of rates. Nothing from outside is believed: a field that is missing,
 * nonsense, negative or greater than a machine can do is not known. So is everything of an interval in which a counter went back, the guest
 * booted, or a clock jumped. What is not known counts as busy.
 *
 * Counters are cumulative, so that a late or lost report costs nothing: the interval is longer, and its rates still true.
 */
import type { Sample } from './history.ts';
import { METERS, type Meter, type Timer } from './signals.ts';

/** What was read of a VM at one time; null: not known. */
export interface Reading {
  /** By the orchestrator's clock. */
  atMs: number;
  /** By its monotonic clock, which no one sets. */
  monotonicMs: number;
  bootId: string | null;
  /** By the guest's clock, and since its boot. */
  epochMs: number | null;
  uptimeMs: number | null;
  cpus: number | null;
  /** Counters. */
  cpuBusyMs: number | null;
  loadMs: number | null;
  diskBytes: number | null;
  dirtiedBytes: number | null;
  payloadBytes: number | null;
  /** Bytes of memory per second, as the hypervisor measured it in the interval before; `none`: it can't. */
  dirtyRate: number | 'none' | null;
  /** Of each session, how long ago somebody typed. */
  sessionsIdleMs: readonly number[] | null;
  jobs: number | null;
  timers: readonly Timer[] | null;
  leaseMs: number | 'none' | null;
}

/** An interval longer than this says too little about any moment in it. */
const LONGEST_MS = 60_000;
/** The guest's two clocks, and ours, may drift by so much within an interval. */
const DRIFT_MS = 2000;
/** More than this no VM of today does; a counter that says so is broken. */
const MOST_BYTES_PER_S = 100 * 2 ** 30;
const MOST_TIMERS = 64;
const MOST_CPUS = 4096;
/** The year 2200. */
const LAST_MS = 7.3e12;

/**
 * What an agent and the switch said, unchecked, as a reading.
 * @param guest the answer of the vm-agent's `sample` (vm-agent/api.ts); null when it gave none
 * @param network counters of the VM's payload, without trivial traffic
 * @param hypervisor how fast the guest writes to its memory
 */
export function readReport(
  guest: unknown,
  network: unknown,
  hypervisor: unknown,
  atMs: number,
  monotonicMs: number,
): Reading {
  const told = asRecord(guest);
  const { dirtyRate } = asRecord(hypervisor);
  const { bootId, sessions, timers, lease, jobs } = told;
  return {
    atMs,
    monotonicMs,
    bootId: typeof bootId === 'string' && /^[0-9a-f-]{8,64}$/i.test(bootId) ? bootId : null,
    epochMs: amount(told.epochMs, LAST_MS),
    uptimeMs: amount(told.uptimeMs),
    cpus: amount(told.cpus, MOST_CPUS) || null,
    cpuBusyMs: amount(told.cpuBusyMs),
    loadMs: amount(told.loadMs),
    diskBytes: amount(told.diskBytes),
    dirtiedBytes: amount(told.dirtiedBytes),
    payloadBytes: amount(asRecord(network).payloadBytes),
    dirtyRate: dirtyRate === 'none' ? 'none' : amount(dirtyRate, MOST_BYTES_PER_S),
    sessionsIdleMs: listOf(sessions, (session) => amount(asRecord(session).idleMs)),
    jobs: Array.isArray(jobs)
      ? (listOf(jobs, (job) => (typeof job === 'string' ? job : null))?.length ?? null)
      : null,
    timers: Array.isArray(timers) && timers.length > MOST_TIMERS ? null : listOf(timers, asTimer),
    leaseMs: lease === null ? 'none' : amount(asRecord(lease).expiresMs, LAST_MS),
  };
}

/** What happened between two readings of a VM; null when the second is not later. */
export function interval(before: Reading, after: Reading): Sample | null {
  const ms = after.monotonicMs - before.monotonicMs;
  if (!(ms > 0)) return null;
  const isWhole = isOneStretch(before, after, ms);
  const values = METERS.map((meter) => (isWhole ? RATE[meter](before, after, ms) : Number.NaN));
  // Plans of a guest whose clock can't be told from ours are none.
  const skew = after.epochMs === null ? Number.NaN : after.epochMs - after.atMs;
  return {
    // A clock that is only slewed leaves no hole; one that was set does.
    startMs: isSteady(before, after, ms) ? before.atMs : after.atMs - ms,
    endMs: after.atMs,
    values,
    timers: Number.isNaN(skew)
      ? null
      : (after.timers?.map(({ name, atMs }) => ({ name, atMs: atMs - skew })) ?? null),
    leaseMs:
      typeof after.leaseMs === 'number' ? (Number.isNaN(skew) ? null : after.leaseMs - skew) : after.leaseMs,
  };
}

/** The same boot, short enough, and no clock has jumped: ours, or one of the guest's. */
function isOneStretch(before: Reading, after: Reading, ms: number): boolean {
  if (ms > LONGEST_MS || !isSteady(before, after, ms)) return false;
  if (before.bootId === null || before.bootId !== after.bootId) return false;
  const uptime = difference(before.uptimeMs, after.uptimeMs);
  const epoch = difference(before.epochMs, after.epochMs);
  return Math.abs(uptime - ms) <= DRIFT_MS && Math.abs(epoch - uptime) <= DRIFT_MS;
}

function isSteady(before: Reading, after: Reading, ms: number): boolean {
  return Math.abs(after.atMs - before.atMs - ms) <= DRIFT_MS;
}

const RATE: Record<Meter, (before: Reading, after: Reading, ms: number) => number> = {
  cpu: (before, after, ms) => percentOf(difference(before.cpuBusyMs, after.cpuBusyMs), ms, after.cpus),
  load(before, after, ms) {
    const { cpus } = after;
    // Of one CPU; all of them together can't do more than all.
    return percentOf(difference(before.loadMs, after.loadMs), ms, cpus) * (cpus ?? Number.NaN);
  },
  network: (before, after, ms) => perSecond(difference(before.payloadBytes, after.payloadBytes), ms),
  disk: (before, after, ms) => perSecond(difference(before.diskBytes, after.diskBytes), ms),
  dirty(before, after, ms) {
    // The guest counts what it writes to files; only the hypervisor sees all memory.
    const files = perSecond(difference(before.dirtiedBytes, after.dirtiedBytes), ms);
    return after.dirtyRate === 'none' ? files : Math.max(files, after.dirtyRate ?? Number.NaN);
  },
  sessions: (_before, { sessionsIdleMs }, ms) =>
    sessionsIdleMs === null ? Number.NaN : sessionsIdleMs.filter((idleMs) => idleMs <= ms).length,
  jobs: (_before, { jobs }) => jobs ?? Number.NaN,
};

/** NaN when a value is missing or the counter went back. */
function difference(before: number | null, after: number | null): number {
  return before === null || after === null || after < before ? Number.NaN : after - before;
}

function percentOf(busyMs: number, ms: number, cpus: number | null): number {
  const percent = (busyMs / (ms * (cpus ?? Number.NaN))) * 100;
  // Ticks and intervals don't begin together: a little over is full.
  return percent <= 125 ? Math.min(100, percent) : Number.NaN;
}

function perSecond(bytes: number, ms: number): number {
  const rate = (bytes / ms) * 1000;
  return rate <= MOST_BYTES_PER_S ? rate : Number.NaN;
}

/** A finite number that is not negative, and no more than `most`. */
function amount(value: unknown, most = Number.MAX_SAFE_INTEGER): number | null {
  return typeof value === 'number' && value >= 0 && value <= most ? value : null;
}

function asTimer(value: unknown): Timer | null {
  const { name, atMs } = asRecord(value);
  const at = amount(atMs, LAST_MS);
  return typeof name === 'string' && name.length > 0 && name.length <= 255 && at !== null
    ? { name, atMs: at }
    : null;
}

/** All of them or null: half a list would hide what the other half says. */
function listOf<T>(value: unknown, read: (each: unknown) => T | null): T[] | null {
  if (!Array.isArray(value)) return null;
  const items = value.map(read);
  return items.every((item) => item !== null) ? items : null;
}

function asRecord(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
