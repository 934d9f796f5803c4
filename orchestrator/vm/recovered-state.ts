/** The state of a VM as the journal has it, for a new process. */
import type { Journal } from '../saga/journal.ts';
import type { VmState } from './state.ts';

/** @returns null for a VM that the journal does not know: it is awake */
export function recoveredState(journal: Journal, vm: string): { state: VmState; since: number } | null {
  const record = journal.last(vm, 'vmState');
  if (!record) return null;
  const state = record.body.state as VmState;
  if (state.kind !== 'parking') return { state, since: record.atMs };
  // The phase is not written with each pivot; the saga’s own records say it.
  const passed = journal
    .ofSaga(state.operation)
    .some(({ step, event }) => step === 'flip' && event === 'succeeded');
  return { state: passed ? { ...state, phase: 'after-pivot' } : state, since: record.atMs };
}
