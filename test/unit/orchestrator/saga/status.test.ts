import { expect, test } from 'vitest';
import { nextStatus, type StepEvent, type StepStatus } from '../../../../orchestrator/saga/status.ts';

const EVENTS: StepEvent[] = ['started', 'succeeded', 'failed', 'undoStarted', 'undoFinished', 'undoFailed'];
const STATUSES: StepStatus[] = ['untouched', 'running', 'done', 'failed', 'undoing', 'undone', 'undoFailed'];

test('only these events may follow each status of a step', () => {
  const legal = STATUSES.map((status) => [status, EVENTS.filter((event) => allows(status, event))]);
  expect(Object.fromEntries(legal)).toEqual({
    untouched: ['started'],
    running: ['started', 'succeeded', 'failed', 'undoStarted'],
    done: ['undoStarted'],
    failed: ['started', 'undoStarted'],
    undoing: ['undoStarted', 'undoFinished', 'undoFailed'],
    undone: [],
    undoFailed: ['undoStarted'],
  });
});

test('an illegal event is refused by name', () => {
  expect(() => nextStatus('undone', 'started')).toThrow(
    expect.objectContaining({ code: 'ILLEGAL_TRANSITION', message: expect.stringContaining('undone') }),
  );
});

function allows(status: StepStatus, event: StepEvent): boolean {
  try {
    nextStatus(status, event);
    return true;
  } catch {
    return false;
  }
}
