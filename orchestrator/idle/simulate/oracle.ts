/** The upper bound: a policy that knows the trace. It parks at once when a gap pays, and is awake again when the VM is needed. */
import { isNeeded, MODEL, type Model, nothing, type Outcome } from './replay.ts';
import type { VmTrace } from './trace.ts';

const HOUR = 3_600_000;

export function oracle(trace: VmTrace, model: Model = MODEL): Outcome {
  const freedGiB = (trace.memoryMiB / 1024) * model.freedShare;
  const outcome = nothing();
  const gap = (from: number, to: number, wakes: boolean) => {
    if (to <= from) return;
    outcome.possibleGiBHours += ((to - from) / HOUR) * freedGiB;
    const parkedMs = to - from - model.parkMs - (wakes ? model.wakeMs : 0);
    if (parkedMs < model.paysMs) return;
    outcome.savedGiBHours += (parkedMs / HOUR) * freedGiB;
    if (wakes) outcome.wakes++;
  };
  let free = trace.fromMs;
  for (const stretch of trace.stretches) {
    if (!isNeeded(stretch)) continue;
    gap(free, stretch.fromMs, true);
    free = Math.max(free, stretch.toMs);
  }
  gap(free, trace.toMs, false);
  return outcome;
}
