/** Histories in a few lines, and random ones. */
import { type Sample, VmHistory } from '../../../../orchestrator/idle/history.ts';
import { BUILT_IN, type Policy } from '../../../../orchestrator/idle/policy/policy.ts';
import type { Meter, Timer } from '../../../../orchestrator/idle/signals.ts';
import type { Random } from '../../../../orchestrator/idle/simulate/random.ts';
import { meters } from '../../../../orchestrator/idle/simulate/trace.ts';

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;
/** A Monday, 00:00 UTC. */
export const START = Date.UTC(2026, 0, 5);
export const POLICY: Policy = { ...BUILT_IN, forecast: 'ignore' };
export const QUIET = meters({ cpu: 1, disk: 100, load: 0.5, dirty: 100 });

export function quietWith(values: Partial<Record<Meter, number>>): number[] {
  return meters({ cpu: 1, disk: 100, load: 0.5, dirty: 100, ...values });
}

export function sample(startMs: number, endMs: number, values: ArrayLike<number> = QUIET): Sample {
  return { startMs, endMs, values, timers: [], leaseMs: 'none' };
}

/** A VM that has been watched from `START` on, in samples of ten seconds, doing what `valuesAt` says. */
export function watched(
  lengthMs: number,
  options: {
    policy?: Policy;
    valuesAt?: (startMs: number) => ArrayLike<number>;
    timers?: readonly Timer[];
    from?: number;
    history?: VmHistory;
  } = {},
): { history: VmHistory; now: number } {
  const { policy = POLICY, valuesAt = () => QUIET, timers = [], from = START } = options;
  const history = options.history ?? new VmHistory(from);
  for (let at = from; at < from + lengthMs; at += 10 * SECOND) {
    const upcoming = timers.filter(({ atMs }) => atMs > at + 10 * SECOND);
    history.observe({ ...sample(at, at + 10 * SECOND, valuesAt(at)), timers: upcoming }, policy);
  }
  return { history, now: from + lengthMs };
}

/** Values around the thresholds, some of them far above, some not known. */
export function randomValues(rng: Random, { thresholds }: Policy = POLICY): number[] {
  const noise = (threshold: number) => {
    if (rng.chance(0.02)) return Number.NaN;
    return (threshold + 1) * (rng.chance(0.04) ? rng.between(1, 100) : rng.between(0, 0.5));
  };
  const { cpu, network, disk, load, dirty } = thresholds;
  return meters({
    cpu: noise(cpu),
    network: rng.chance(0.03) ? network * 10 : 0,
    disk: noise(disk),
    sessions: rng.chance(0.02) ? 1 : 0,
    jobs: rng.chance(0.02) ? 1 : 0,
    load: noise(load),
    dirty: noise(dirty),
  });
}
