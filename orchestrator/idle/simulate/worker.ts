/** A thread of a simulation: takes VMs, gives what each policy makes of them. */
import { parentPort, workerData } from 'node:worker_threads';
import { generateVm } from './generate.ts';
import { type Contender, contend } from './policies.ts';
import { nothing, type Outcome } from './replay.ts';
import { addOutcome } from './report.ts';
import type { VmTrace } from './trace.ts';

/** Some VMs of the trace: by number, to be generated here, or themselves. */
export type Batch = { id: number } & (
  | { first: number; count: number; seed: number; days: number }
  | { traces: VmTrace[] }
);

export interface BatchResult {
  id: number;
  vms: number;
  /** One per policy, summed over the batch. */
  outcomes: Outcome[];
}

const contenders = (workerData as { contenders: Contender[] }).contenders.map(contend);

parentPort?.on('message', (batch: Batch) => {
  const outcomes = contenders.map(nothing);
  const take = (trace: VmTrace) =>
    contenders.forEach((run, index) => addOutcome(outcomes[index], run(trace)));
  if ('traces' in batch) batch.traces.forEach(take);
  else for (let i = 0; i < batch.count; i++) take(generateVm(batch.seed, batch.first + i, batch.days));
  const vms = 'traces' in batch ? batch.traces.length : batch.count;
  parentPort?.postMessage({ id: batch.id, vms, outcomes } satisfies BatchResult);
});
