/**
 * One VM's trace under one policy: `decide` as the service runs it, asked whenever its answer may have changed (a stretch begins or ends,
 * `recheckAt` comes) instead of every ten seconds.
 */
import { decide } from '../decide.ts';
import { VmHistory, type WakeCause } from '../history.ts';
import type { Policy } from '../policy/policy.ts';
import type { Timer } from '../signals.ts';
import { QUIET, type Stretch, type VmTrace } from './trace.ts';

const HOUR = 3_600_000;

/** What a move costs. */
export interface Model {
  /** From the decision until the memory is free. */
  parkMs: number;
  /** From the request until the VM answers it. */
  wakeMs: number;
  /** What a request waits that comes while the VM parks, and takes the park back. */
  abortMs: number;
  /** Share of the VM's memory that a parked VM frees. */
  freedShare: number;
  /** A park shorter than this is thrash. */
  paysMs: number;
}

export const MODEL: Model = {
  parkMs: 20_000,
  wakeMs: 1000,
  abortMs: 500,
  freedShare: 0.8,
  paysMs: 10 * 60_000,
};

export interface Outcome {
  savedGiBHours: number;
  possibleGiBHours: number;
  wakes: number;
  /** Wakes that nobody used: scans, and uses that were expected and did not come. */
  falseWakes: number;
  delaySeconds: number;
  /** Parks that were too short to pay, or that traffic took back. */
  thrash: number;
  parkedWhileBusy: number;
}

export function replay(trace: VmTrace, policy: Policy, model: Model = MODEL): Outcome {
  const { stretches, probes, toMs } = trace;
  const freedGiB = (trace.memoryMiB / 1024) * model.freedShare;
  const outcome = { ...nothing(), possibleGiBHours: possible(trace) * freedGiB };
  const history = new VmHistory(trace.fromMs);
  const plans = new Plans(trace.timers);
  const held = policy.syn['tcp/22'] === 'accept' ? [] : probes;
  let now = trace.fromMs;
  /** The first stretch that ends after `now`. */
  let ahead = 0;
  let probe = 0;
  let unused: WakeCause | null = null;

  const here = (): Stretch | undefined => {
    while (ahead < stretches.length && (stretches[ahead] as Stretch).toMs <= now) ahead++;
    const stretch = stretches[ahead];
    return stretch && stretch.fromMs <= now ? stretch : undefined;
  };
  const endUnused = () => {
    if (unused === 'use' || unused === 'forecast') outcome.falseWakes++;
    unused = null;
  };
  /** The VM runs until `until`, or until what it does changes. */
  const run = (until: number) => {
    const current = here();
    const change = current ? current.toMs : (stretches[ahead]?.fromMs ?? toMs);
    const end = Math.min(until, change, toMs, plans.next(now));
    if (current && (current.busy || current.requests > 0)) unused = null;
    const values = current ? current.values : QUIET;
    history.observe({ startMs: now, endMs: end, values, timers: plans.after(end), leaseMs: 'none' }, policy);
    now = end;
  };

  while (now < toMs) {
    const decision = decide(history, policy, now, 'verdict');
    if (decision.verdict !== 'park') {
      run(decision.recheckAt);
      continue;
    }
    const parkedAt = now + model.parkMs;
    history.moved('parking', now);
    const interruption = nextRequest(stretches, ahead, now);
    if (interruption <= parkedAt) {
      outcome.thrash++;
      outcome.delaySeconds += model.abortMs / 1000;
      const back = Math.max(interruption, now + 1);
      while (now < back && now < toMs) run(back);
      history.moved('awake', now, 'use');
      continue;
    }
    if (isBusyWithin(stretches, ahead, now, parkedAt)) outcome.parkedWhileBusy++;
    endUnused();
    now = parkedAt;
    if (now >= toMs) break;
    history.moved('parked', now);
    const { at, cause, request } = sleep(parkedAt);
    outcome.savedGiBHours += ((Math.min(at, toMs) - parkedAt) / HOUR) * freedGiB;
    if (at >= toMs) break;
    outcome.wakes++;
    if (at - parkedAt < model.paysMs) outcome.thrash++;
    history.moved('moving', at, cause);
    now = at + model.wakeMs;
    outcome.delaySeconds += waited(request, at, now, model.wakeMs);
    history.moved('awake', now);
    unused = cause;
  }
  endUnused();
  return outcome;

  /** When and why the parked VM wakes. */
  function sleep(parkedAt: number): { at: number; cause: WakeCause; request: Stretch | undefined } {
    now = parkedAt;
    here();
    while (probe < held.length && (held[probe] as number) < now) probe++;
    const used = nextRequest(stretches, ahead, now);
    const scanned = held[probe] ?? Number.POSITIVE_INFINITY;
    const disturbed = Math.min(used, scanned, toMs);
    for (let at = parkedAt; at < disturbed; ) {
      const { verdict, rule, recheckAt } = decide(history, policy, at, 'verdict');
      if (verdict === 'wake') {
        const request = stretches.find(({ fromMs, requests }) => requests > 0 && fromMs >= at);
        return { at, cause: rule === 'timer' || rule === 'lease' ? rule : 'forecast', request };
      }
      at = recheckAt;
    }
    const request = used <= scanned ? stretches[indexOfRequest(stretches, ahead, now)] : undefined;
    return { at: disturbed, cause: 'use', request };
  }
}

export function nothing(): Outcome {
  return {
    savedGiBHours: 0,
    possibleGiBHours: 0,
    wakes: 0,
    falseWakes: 0,
    delaySeconds: 0,
    thrash: 0,
    parkedWhileBusy: 0,
  };
}

/** Hours in which the VM is not needed. */
function possible({ fromMs, toMs, stretches }: VmTrace): number {
  const needed = stretches.reduce((sum, each) => sum + (isNeeded(each) ? each.toMs - each.fromMs : 0), 0);
  return (toMs - fromMs - needed) / HOUR;
}

export function isNeeded({ busy, requests }: Stretch): boolean {
  return busy || requests > 0;
}

function indexOfRequest(stretches: readonly Stretch[], ahead: number, now: number): number {
  for (let index = ahead; index < stretches.length; index++) {
    const { fromMs, toMs, requests } = stretches[index] as Stretch;
    if (requests > 0 && (fromMs >= now || requestAfter(fromMs, toMs, requests, now) < toMs)) return index;
  }
  return -1;
}

/** When the next request comes, at `now` or later. */
function nextRequest(stretches: readonly Stretch[], ahead: number, now: number): number {
  const stretch = stretches[indexOfRequest(stretches, ahead, now)];
  if (!stretch) return Number.POSITIVE_INFINITY;
  const { fromMs, toMs, requests } = stretch;
  return fromMs >= now ? fromMs : requestAfter(fromMs, toMs, requests, now);
}

function requestAfter(fromMs: number, toMs: number, requests: number, now: number): number {
  const apart = (toMs - fromMs) / requests;
  return fromMs + Math.ceil((now - fromMs) / apart) * apart;
}

function isBusyWithin(stretches: readonly Stretch[], ahead: number, from: number, to: number): boolean {
  for (let index = ahead; index < stretches.length; index++) {
    const stretch = stretches[index] as Stretch;
    if (stretch.fromMs >= to) return false;
    if (stretch.busy && stretch.toMs > from) return true;
  }
  return false;
}

/** Seconds that requests wait which come from the wake at `from` until the VM answers at `to`. */
function waited(stretch: Stretch | undefined, from: number, to: number, wakeMs: number): number {
  if (!stretch) return 0;
  const first = Math.max(stretch.fromMs, from);
  if (first >= to) return 0;
  const apart = (stretch.toMs - stretch.fromMs) / stretch.requests;
  let ms = 0;
  for (let at = first; at < Math.min(to, stretch.toMs) && ms < 1000 * wakeMs; at += apart) ms += to - at;
  return ms / 1000;
}

/** The guest's timers, as its agent would tell them at any time. */
class Plans {
  readonly #timers: readonly Timer[];
  #at = 0;
  #told: readonly Timer[] = [];
  #toldAt = -1;

  constructor(timers: readonly Timer[]) {
    this.#timers = timers;
  }

  /** When the next one fires, after `now`. */
  next(now: number): number {
    this.#skip(now);
    return this.#timers[this.#at]?.atMs ?? Number.POSITIVE_INFINITY;
  }

  after(now: number): readonly Timer[] {
    this.#skip(now);
    if (this.#toldAt !== this.#at) this.#told = this.#timers.slice(this.#at, this.#at + 8);
    this.#toldAt = this.#at;
    return this.#told;
  }

  #skip(now: number): void {
    while (this.#at < this.#timers.length && (this.#timers[this.#at] as Timer).atMs <= now) this.#at++;
  }
}
