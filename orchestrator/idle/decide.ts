/**
 * Park, wake, or leave as it is: the one decision about a VM, for the service and the simulator alike. Pure: it reads the history, the
 * policy and the time that it is given, and nothing else.
 *
 * Slow to park, fast to wake. An awake VM is parked when nothing forbids it, in this order: the policy; a signal that is busy; a signal
 * that is not known; the grace after a wake; a timer, a lease or a use that comes too soon for the park to pay; a park that was refused
 * a short time ago. A parked VM is woken for what is known beforehand (timer, lease, expected use); use itself wakes it through the sink,
 * without this function.
 */

import type { VmHistory } from './history.ts';
import { judgePlans, leaseEnd, nextHonoured } from './plans.ts';
import type { Policy, PolicyKey } from './policy/policy.ts';
import { JUDGED_BY, METERS, type Meter, type Signal, type SignalName, type Timer } from './signals.ts';
import type { Forecast } from './uses.ts';
import { type Judgement, judgeLevel, judgeTrace, RECENT_MS } from './window.ts';

export type Verdict = 'park' | 'wake' | 'abort' | 'keep';

export type RuleName =
  | 'never'
  | 'busy'
  | 'unknown'
  | 'grace'
  | 'timer'
  | 'lease'
  | 'forecast'
  | 'refused'
  | 'idle'
  | 'parked'
  | 'moving'
  | 'stuck';

export interface Decision {
  /** `abort`: take a running park back. `keep`: leave the VM as it is. */
  verdict: Verdict;
  rule: RuleName;
  /** The signal that decided, for `busy` and `unknown`. */
  signal: SignalName | null;
  /** The setting that decided; null when no setting could have changed it. */
  setting: PolicyKey | null;
  /** All of them; none when only the verdict was asked for. */
  signals: Signal[];
  forecast: Forecast;
  /** The next timer that is honoured. */
  nextTimer: Timer | null;
  /** When this may change without a new sample; Infinity when it can't. */
  recheckAt: number;
}

/** Bounces double the grace, up to this many times. */
const MOST_DOUBLINGS = 5;
const BOUNCES_COUNT_MS = 24 * 3_600_000;
/** An unused wake ends in a third of the window, when no use is expected. */
const UNUSED_SHARE = 1 / 3;
const HOUR = 3_600_000;

/** @param want the verdict alone costs half as much: for rounds over many VMs */
export function decide(
  history: VmHistory,
  policy: Policy,
  now: number,
  want: 'all' | 'verdict' = 'all',
): Decision {
  const forecast = history.uses.forecast(now, policy.confidence);
  const nextTimer = nextHonoured(history, policy, now);
  const windowMs = effectiveWindow(history, policy, forecast);
  const judged: Judged = { signals: want === 'all' ? [] : null, quietAt: now, busy: null, unknown: null };
  // A parked VM reports nothing: its meters decide nothing.
  const meters = history.phase === 'parked' && want === 'verdict' ? 0 : METERS.length;
  for (let meter = 0; meter < meters; meter++) judgeMeter(judged, history, policy, meter, windowMs, now);
  for (const { quietAt, ...signal } of judgePlans(history, policy, nextTimer, now)) {
    judged.signals?.push(signal);
    if (signal.state === 'busy') judged.busy ??= signal.name;
    if (signal.state === 'unknown') judged.unknown ??= signal.name;
    judged.quietAt = Math.max(judged.quietAt, quietAt);
  }

  const decided = (
    verdict: Verdict,
    rule: RuleName,
    setting: PolicyKey | null,
    recheckAt: number,
    signal: SignalName | null = null,
  ): Decision => ({
    verdict,
    rule,
    signal,
    setting,
    signals: judged.signals ?? [],
    forecast,
    nextTimer,
    recheckAt: recheckAt > now || verdict !== 'keep' ? recheckAt : Number.POSITIVE_INFINITY,
  });

  switch (history.phase) {
    case 'moving':
      return decided('keep', 'moving', null, Number.POSITIVE_INFINITY);
    case 'stuck':
      return decided('keep', 'stuck', null, Number.POSITIVE_INFINITY);
    case 'parked':
      return decideParked();
    case 'parking':
      return decideParking();
    case 'awake':
      return decideAwake();
  }

  function decideAwake(): Decision {
    if (policy.park === 'never') return decided('keep', 'never', 'park', Number.POSITIVE_INFINITY);
    const { busy, unknown, quietAt } = judged;
    // What is learned can change at the turn of the hour, and with it the window of an unused wake.
    const turn =
      windowMs === policy.windowMs && mayShorten(history, policy) ? nextHour(now) : Number.POSITIVE_INFINITY;
    if (busy) return decided('keep', 'busy', settingOf(busy), Math.min(quietAt, turn), busy);
    if (unknown) return decided('keep', 'unknown', settingOf(unknown), Math.min(quietAt, turn), unknown);
    const graceEnd = endOfGrace(history, policy, windowMs, now);
    if (graceEnd > now) return decided('keep', 'grace', 'windowMs', Math.min(graceEnd, turn));
    if (policy.forecast !== 'ignore' && forecast.nextUse !== null && !isHostShort(0)) {
      const gap =
        forecast.nextUse - now - (policy.forecast === 'wake' && forecast.begins ? policy.leadMs : 0);
      if (gap < policy.minGapMs) return decided('keep', 'forecast', 'minGapMs', nextHour(now));
    }
    const { refusal } = history;
    if (refusal && refusal.untilMs > now) return decided('keep', 'refused', null, refusal.untilMs);
    return decided(
      'park',
      'idle',
      policy.park === 'always-allow' ? 'park' : 'windowMs',
      Number.POSITIVE_INFINITY,
    );
  }

  /** Since the park began there may be use that the window had not seen; and the policy may have changed. */
  function decideParking(): Decision {
    if (policy.park === 'never') return decided('abort', 'never', 'park', now);
    for (const name of ['network', 'sessions'] as const) {
      const since = Math.min(now - history.phaseSince, policy.windowMs);
      const { state } = judgeTrace(history.runs, METERS.indexOf(name), policy.thresholds[name], since, now);
      if (since > 0 && state === 'busy') return decided('abort', 'busy', `thresholds.${name}`, now, name);
    }
    return decided('keep', 'moving', null, Number.POSITIVE_INFINITY);
  }

  function decideParked(): Decision {
    if (policy.park === 'never') return decided('wake', 'never', 'park', now);
    const dueTimer = nextTimer ? nextTimer.atMs - policy.leadMs : Number.POSITIVE_INFINITY;
    const dueLease = leaseEnd(history) - policy.leadMs;
    if (dueTimer <= now) return decided('wake', 'timer', 'timers', now);
    if (dueLease <= now) return decided('wake', 'lease', null, now);
    let dueUse = Number.POSITIVE_INFINITY;
    if (policy.forecast === 'wake') {
      // In a period of use that has begun no single use is foreseen: only the beginning of the next one.
      dueUse =
        forecast.begins && forecast.nextUse !== null ? forecast.nextUse - policy.leadMs : nextHour(now);
      if (dueUse <= now && !isHostShort(history.memoryBytes ?? 0))
        return decided('wake', 'forecast', 'forecast', now);
      if (dueUse <= now) dueUse = nextHour(now);
    }
    return decided('keep', 'parked', null, Math.min(dueTimer, dueLease, dueUse));
  }

  /** A host that is short of memory has none to spare for what is only expected. */
  function isHostShort(neededBytes: number): boolean {
    const free = history.hostFreeBytes;
    return free !== null && free - neededBytes < policy.spareMemoryBytes;
  }
}

interface Judged {
  /** null: nobody asked for them. */
  signals: Signal[] | null;
  quietAt: number;
  /** The first that keeps the VM awake. */
  busy: SignalName | null;
  unknown: SignalName | null;
}

function judgeMeter(
  judged: Judged,
  history: VmHistory,
  policy: Policy,
  index: number,
  windowMs: number,
  now: number,
): void {
  const name = METERS[index] as Meter;
  const threshold = policy.thresholds[name];
  const kind = JUDGED_BY[name];
  const { runs } = history;
  const judgement: Judgement =
    history.phase === 'parked'
      ? NOT_JUDGED
      : kind === 'level'
        ? judgeLevel(runs, index, threshold, windowMs, policy.percentile, now, judged.signals !== null)
        : judgeTrace(
            runs,
            index,
            threshold,
            kind === 'trace' ? windowMs : Math.min(RECENT_MS, windowMs),
            now,
          );
  const { state, value, quietAt } = judgement;
  judged.signals?.push({ name, state, value, threshold, ageMs: ageOf(history, index, now) });
  if (state === 'quiet') return;
  // `always-allow`: the guest's own load does not count. That nothing is known of it does.
  if (state === 'busy' && kind !== 'trace' && policy.park === 'always-allow') return;
  if (state === 'busy') judged.busy ??= name;
  else judged.unknown ??= name;
  judged.quietAt = Math.max(judged.quietAt, quietAt);
}

const NOT_JUDGED: Judgement = { state: 'unknown', value: null, quietAt: 0 };

/** The window in force: a part of it when the VM woke for nothing and nobody is expected. */
function effectiveWindow(history: VmHistory, policy: Policy, { quiet }: Forecast): number {
  return quiet && mayShorten(history, policy) ? policy.windowMs * UNUSED_SHARE : policy.windowMs;
}

function mayShorten(history: VmHistory, policy: Policy): boolean {
  const { lastWake } = history;
  return policy.forecast !== 'ignore' && lastWake !== null && history.uses.lastUse < lastWake.atMs;
}

/** Twice the window after a wake; doubled with each park of the last day that was too short to pay. */
function endOfGrace(history: VmHistory, policy: Policy, windowMs: number, now: number): number {
  const { lastWake } = history;
  if (!lastWake) return Number.NEGATIVE_INFINITY;
  let bounces = 0;
  for (const { atMs, parkedMs } of history.wakes) {
    if (parkedMs < policy.minGapMs && now - atMs < BOUNCES_COUNT_MS) bounces++;
  }
  return lastWake.atMs + 2 * windowMs * 2 ** Math.min(bounces, MOST_DOUBLINGS);
}

/** How long ago this meter was last known. */
function ageOf({ runs }: VmHistory, meter: number, now: number): number | null {
  for (let back = 0; back < runs.length; back++) {
    if (!Number.isNaN(runs.value(back, meter))) return Math.max(0, now - runs.end(back));
  }
  return null;
}

function settingOf(signal: SignalName): PolicyKey | null {
  if (signal === 'timers') return 'timers';
  return signal === 'lease' ? null : `thresholds.${signal}`;
}

function nextHour(now: number): number {
  return (Math.floor(now / HOUR) + 1) * HOUR;
}
