/** One decision round over all VMs, in slices, so that ten thousand of them don't hold up whoever waits for the service. */
import { setImmediate as turn } from 'node:timers/promises';
import { type Decision, decide } from './decide.ts';
import type { VmHistory } from './history.ts';
import type { Policy } from './policy/policy.ts';

export interface Watched {
  readonly name: string;
  readonly history: VmHistory;
  readonly policy: Policy;
}

/** Longest time in one piece. */
const SLICE_MS = 10;

/**
 * Tells each decision other than `keep`, without its signals.
 * @returns the number of VMs decided about
 */
export async function decideRound<T extends Watched>(
  vms: Iterable<T>,
  now: () => number,
  act: (vm: T, decision: Decision) => void,
  signal?: AbortSignal,
): Promise<number> {
  let count = 0;
  let sliceEnd = performance.now() + SLICE_MS;
  for (const vm of vms) {
    const decision = decide(vm.history, vm.policy, now(), 'verdict');
    if (decision.verdict !== 'keep') act(vm, decision);
    count++;
    if (performance.now() < sliceEnd) continue;
    await turn();
    if (signal?.aborted) break;
    sliceEnd = performance.now() + SLICE_MS;
  }
  return count;
}
