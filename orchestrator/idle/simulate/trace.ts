/**
 * What a VM would do if nobody ever parked it: stretches of activity with what the meters show, who waits, and the truth, which no policy
 * sees: whether the VM is in use. Between the stretches it shows `QUIET`.
 */
import { METERS, type Meter, type Timer } from '../signals.ts';

export interface Stretch {
  fromMs: number;
  toMs: number;
  /** One value per meter; NaN where the trace does not know. */
  values: ArrayLike<number>;
  /** Requests for which somebody waits, the first at `fromMs`, the others spread evenly. They wake a parked VM. */
  requests: number;
  /** The truth: somebody or some job needs the VM, even where the meters are silent. */
  busy: boolean;
}

export interface VmTrace {
  name: string;
  memoryMiB: number;
  fromMs: number;
  toMs: number;
  /** In order, without overlap. */
  stretches: readonly Stretch[];
  /** When a scanner sends a SYN to a listening port and no payload; in order. */
  probes: readonly number[];
  /** All timers that fire, in order. The work that they start is a stretch; a parked VM doesn't do it. */
  timers: readonly Timer[];
}

/** An idle guest is not silent. */
export const QUIET: readonly number[] = meters({ cpu: 0.6, disk: 2048, load: 0.3, dirty: 16 * 1024 });

export function meters(known: Partial<Record<Meter, number>>): number[] {
  return METERS.map((meter) => known[meter] ?? 0);
}

/** Something that goes on for a while; several may overlap. */
export interface Activity extends Stretch {}

/** Overlapping activities as stretches: levels add up, each request stays with the part in which it comes. */
export function flatten(activities: readonly Activity[]): Stretch[] {
  const sorted = [...activities].sort((a, b) => a.fromMs - b.fromMs || a.toMs - b.toMs);
  const stretches: Stretch[] = [];
  let active: Activity[] = [];
  let at = 0;
  /** Emits what is active until `to`, part by part. */
  const emitUntil = (to: number) => {
    while (active.length > 0 && at < to) {
      const end = Math.min(to, ...active.map(({ toMs }) => toMs));
      if (end > at) stretches.push(overlay(active, at, end));
      at = end;
      active = active.filter(({ toMs }) => toMs > at);
    }
  };
  for (const activity of sorted) {
    emitUntil(activity.fromMs);
    at = activity.fromMs;
    active.push(activity);
  }
  emitUntil(Number.POSITIVE_INFINITY);
  return stretches;
}

function overlay(active: readonly Activity[], fromMs: number, toMs: number): Stretch {
  if (active.length === 1) {
    const [only] = active as [Activity];
    return { fromMs, toMs, values: only.values, requests: requestsIn(only, fromMs, toMs), busy: only.busy };
  }
  const values = METERS.map((name, meter) => {
    const sum = active.reduce((total, { values }) => total + (values[meter] as number), 0);
    return name === 'cpu' ? Math.min(100, sum) : sum;
  });
  const requests = active.reduce((total, each) => total + requestsIn(each, fromMs, toMs), 0);
  return { fromMs, toMs, values, requests, busy: active.some(({ busy }) => busy) };
}

/** How many of the activity's evenly spread requests come in a part of it. */
function requestsIn({ fromMs, toMs, requests }: Activity, from: number, to: number): number {
  if (requests === 0) return 0;
  const before = (at: number) => Math.min(requests, Math.ceil(((at - fromMs) / (toMs - fromMs)) * requests));
  return before(to) - before(from);
}
