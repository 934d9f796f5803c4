/**
 * A simulation over all VMs of a trace, in threads. Batches are summed in their order, so that the result is the same in any number of
 * threads.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { SeamlessError } from '../../../common/errors.ts';
import type { Contender } from './policies.ts';
import { nothing } from './replay.ts';
import { addOutcome, round, type SimulationReport } from './report.ts';
import type { VmTrace } from './trace.ts';
import type { Batch, BatchResult } from './worker.ts';

export type TraceSource = { vms: number; days: number; seed: number } | { traces: VmTrace[] };

export interface SimulateOptions {
  source: TraceSource;
  contenders: readonly Contender[];
  threads?: number;
  /** Told as VMs are done. */
  onProgress?: (done: number, all: number) => void;
}

const BATCH = 25;
const DAY = 86_400_000;

export async function simulate(options: SimulateOptions): Promise<SimulationReport> {
  const { source, contenders, onProgress } = options;
  const startedAt = performance.now();
  const batches = batchesOf(source);
  const vms = 'traces' in source ? source.traces.length : source.vms;
  const results: BatchResult[] = [];
  const threads = Math.max(1, Math.min(options.threads ?? availableParallelism(), batches.length));
  let done = 0;
  let next = 0;
  const workers = Array.from(
    { length: threads },
    () => new Worker(new URL('./worker.ts', import.meta.url), { workerData: { contenders } }),
  );
  try {
    await Promise.all(
      workers.map(async (worker) => {
        for (let batch = batches[next++]; batch; batch = batches[next++]) {
          const result = await ask(worker, batch);
          results[result.id] = result;
          done += result.vms;
          onProgress?.(done, vms);
        }
      }),
    );
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
  const policies = contenders.map(({ name }, index) => {
    const sum = nothing();
    for (const { outcomes } of results) addOutcome(sum, outcomes[index] ?? nothing());
    const hours = { savedGiBHours: round(sum.savedGiBHours), possibleGiBHours: round(sum.possibleGiBHours) };
    return { name, ...sum, ...hours, delaySeconds: round(sum.delaySeconds) };
  });
  return { vms, days: daysOf(source), wallSeconds: round((performance.now() - startedAt) / 1000), policies };
}

function batchesOf(source: TraceSource): Batch[] {
  const batches: Batch[] = [];
  const vms = 'traces' in source ? source.traces.length : source.vms;
  for (let first = 0; first < vms; first += BATCH) {
    const id = batches.length;
    const count = Math.min(BATCH, vms - first);
    if ('traces' in source) batches.push({ id, traces: source.traces.slice(first, first + count) });
    else batches.push({ id, first, count, seed: source.seed, days: source.days });
  }
  return batches;
}

function daysOf(source: TraceSource): number {
  if (!('traces' in source)) return source.days;
  let from = Number.POSITIVE_INFINITY;
  let to = Number.NEGATIVE_INFINITY;
  for (const { fromMs, toMs } of source.traces) {
    from = Math.min(from, fromMs);
    to = Math.max(to, toMs);
  }
  return round((to - from) / DAY);
}

/** One batch at a time for each thread. */
function ask(worker: Worker, batch: Batch): Promise<BatchResult> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      worker.off('error', ended).off('exit', ended).off('message', answered);
    };
    const ended = (cause: unknown) => {
      settle();
      reject(new SeamlessError('INTERNAL', 'A thread of the simulation ended', { cause }));
    };
    const answered = (result: BatchResult) => {
      settle();
      resolve(result);
    };
    worker.on('error', ended).on('exit', ended).on('message', answered);
    worker.postMessage(batch);
  });
}
