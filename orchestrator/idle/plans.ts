/** What a VM will do by itself: its timers, as far as the policy honours them, and its DHCP lease, which is always honoured. Pure. */
import type { VmHistory } from './history.ts';
import { isGlobMatch } from './policy/match.ts';
import type { Policy } from './policy/policy.ts';
import type { Signal, Timer } from './signals.ts';
import { STALE_MS } from './window.ts';

/** The work of a timer that has fired shows in the meters after two samples; until then it is as good as due. */
const FIRED_MS = 30_000;

/** Busy when it comes so soon that a park would not pay; `quietAt` is when it has come. */
export function judgePlans(
  history: VmHistory,
  policy: Policy,
  nextTimer: Timer | null,
  now: number,
): (Signal & { quietAt: number })[] {
  const ignoresAll = policy.timers[0]?.pattern === '*' && policy.timers[0].action === 'ignore';
  const timerAt = (justFired(history, policy, now) ?? nextTimer)?.atMs ?? Number.POSITIVE_INFINITY;
  const isTold = history.timers !== null && isFresh(history, now);
  const leaseIsTold = history.leaseMs !== null && isFresh(history, now);
  return [
    judge('timers', history, policy, timerAt, isTold || ignoresAll, now, FIRED_MS),
    judge('lease', history, policy, leaseEnd(history), leaseIsTold, now, 0),
  ];
}

/** Of a parked VM also one that has passed since: nobody looked, and it is still due. */
export function nextHonoured(history: VmHistory, policy: Policy, now: number): Timer | null {
  const after = history.phase === 'parked' ? history.phaseSince : now;
  let next: Timer | null = null;
  for (const timer of history.timers ?? []) {
    if (timer.atMs <= after || (next && timer.atMs >= next.atMs)) continue;
    if (isHonoured(timer, policy)) next = timer;
  }
  return next;
}

/** Infinity when there is none, or none is known. */
export function leaseEnd({ leaseMs }: VmHistory): number {
  return typeof leaseMs === 'number' ? leaseMs : Number.POSITIVE_INFINITY;
}

function judge(
  name: 'timers' | 'lease',
  { plansAt }: VmHistory,
  policy: Policy,
  atMs: number,
  isTold: boolean,
  now: number,
  afterwardsMs: number,
): Signal & { quietAt: number } {
  const threshold = (policy.leadMs + policy.minGapMs) / 1000;
  const value = Number.isFinite(atMs) ? (atMs - now) / 1000 : null;
  const isSoon = value !== null && value < threshold;
  return {
    name,
    state: isSoon ? 'busy' : isTold ? 'quiet' : 'unknown',
    value,
    threshold,
    ageMs: Number.isFinite(plansAt) ? Math.max(0, now - plansAt) : null,
    quietAt: isSoon ? atMs + afterwardsMs : now,
  };
}

/** What a VM told before it was parked stays true; an awake one tells anew. */
function isFresh({ phase, plansAt }: VmHistory, now: number): boolean {
  return phase === 'parked' || now - plansAt <= STALE_MS;
}

function justFired({ lastFired }: VmHistory, policy: Policy, now: number): Timer | null {
  return lastFired && now - lastFired.atMs < FIRED_MS && isHonoured(lastFired, policy) ? lastFired : null;
}

function isHonoured({ name }: Timer, { timers }: Policy): boolean {
  return timers.find(({ pattern }) => pattern === '*' || isGlobMatch(pattern, name))?.action !== 'ignore';
}
