/**
 * What may follow what in the log of one step. Pure; the journal refuses anything else, on writing and on reading.
 *
 *   untouched ─started→ running ─succeeded→ done
 *                         │  └──failed────→ failed ─started→ running   (a stuck saga is retried forward)
 *                         │                    │
 *        (done, running, failed) ─undoStarted→ undoing ─undoFinished→ undone
 *                                                 └────undoFailed───→ undoFailed ─undoStarted→ undoing
 *
 * `running ─started→ running` and `undoing ─undoStarted→ undoing`: the process died in between and does it again.
 */
import { SeamlessError } from '../../common/errors.ts';

export type StepEvent = 'started' | 'succeeded' | 'failed' | 'undoStarted' | 'undoFinished' | 'undoFailed';
export type StepStatus = 'untouched' | 'running' | 'done' | 'failed' | 'undoing' | 'undone' | 'undoFailed';

const NEXT: Record<StepStatus, Partial<Record<StepEvent, StepStatus>>> = {
  untouched: { started: 'running' },
  running: { started: 'running', succeeded: 'done', failed: 'failed', undoStarted: 'undoing' },
  done: { undoStarted: 'undoing' },
  failed: { started: 'running', undoStarted: 'undoing' },
  undoing: { undoStarted: 'undoing', undoFinished: 'undone', undoFailed: 'undoFailed' },
  undoFailed: { undoStarted: 'undoing' },
  undone: {},
};

export function nextStatus(status: StepStatus, event: StepEvent): StepStatus {
  const next = NEXT[status][event];
  if (next) return next;
  throw new SeamlessError(
    'ILLEGAL_TRANSITION',
    `Expected an event that may follow “${status}”, got “${event}”`,
  );
}

export function isStepEvent(event: string): event is StepEvent {
  return ['started', 'succeeded', 'failed', 'undoStarted', 'undoFinished', 'undoFailed'].includes(event);
}
