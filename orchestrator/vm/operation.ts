/** An operation as the API shows it: folded from its saga’s records. Pure. */
import type { ErrorBody } from '../../common/errors.ts';
import type { JournalRecord } from '../saga/journal.ts';
import { isStepEvent, nextStatus, type StepStatus } from '../saga/status.ts';
import type { ParkCause, Wake } from './state.ts';

export interface Operation {
  id: string;
  vm: string;
  kind: 'park' | 'unpark';
  /** `unwound`: it failed or was taken back, and the VM is as before. */
  status: 'running' | 'succeeded' | 'unwound' | 'stuck';
  startedAt: string;
  endedAt: string | null;
  ms: number | null;
  /** What caused it: of a park `idle` (the service found it so) or `manual`; null in old journals. */
  cause: Wake['cause'] | ParkCause['cause'] | null;
  /** Of a park by the service: the rule, and the line of the policy that decided. */
  rule: string | null;
  trigger: Wake['trigger'];
  steps: { name: string; status: StepStatus; ms: number | null; undoMs: number | null }[];
  error: ErrorBody | null;
  /** What the steps found and measured: bytes, processes. */
  result: Record<string, number | boolean>;
}

/** @returns null when the records are not those of a saga */
export function operationOf(records: readonly JournalRecord[]): Operation | null {
  const [created] = records;
  if (created?.event !== 'sagaCreated' || created.saga === null) return null;
  const { wake, because } = created.body.input as { wake?: Wake; because?: ParkCause };
  const operation: Operation = {
    id: created.saga,
    vm: created.vm,
    kind: created.body.definition as Operation['kind'],
    status: 'running',
    startedAt: new Date(created.atMs).toISOString(),
    endedAt: null,
    ms: null,
    cause: wake?.cause ?? because?.cause ?? null,
    rule: because?.cause === 'idle' ? because.rule : null,
    trigger: wake?.trigger ?? null,
    steps: [],
    error: null,
    result: {},
  };
  for (const record of records) apply(operation, record, created.atMs);
  return operation;
}

function apply(operation: Operation, { step, event, body, atMs }: JournalRecord, startMs: number): void {
  if (event === 'sagaResumed') {
    operation.status = 'running';
    operation.endedAt = operation.ms = operation.error = null;
  }
  if (event === 'sagaEnded') {
    operation.status = body.kind as Operation['status'];
    operation.error = (body.error as ErrorBody | undefined) ?? null;
    operation.endedAt = new Date(atMs).toISOString();
    operation.ms = atMs - startMs;
  }
  if (step === null || !isStepEvent(event)) return;
  let entry = operation.steps.find(({ name }) => name === step);
  if (!entry) {
    entry = { name: step, status: 'untouched', ms: null, undoMs: null };
    operation.steps.push(entry);
  }
  entry.status = nextStatus(entry.status, event);
  const ms = typeof body.ms === 'number' ? Math.round(body.ms * 10) / 10 : null;
  if (event === 'succeeded' || event === 'failed') entry.ms = ms;
  if (event === 'undoFinished' || event === 'undoFailed') entry.undoMs = ms;
  if (event !== 'succeeded') return;
  for (const [key, value] of Object.entries((body.output ?? {}) as object)) {
    if (typeof value === 'number' || typeof value === 'boolean') operation.result[key] = value;
  }
}
