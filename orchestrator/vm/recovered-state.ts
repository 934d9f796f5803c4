/** The state of a VM as the journal has it, for a new process. */
import type { Journal } from '../saga/journal.ts';
import type { ParkState } from '../sagas/park.ts';
import type { ParkCause, VmState } from './state.ts';

export interface RecoveredState {
  state: VmState;
  since: number;
  /** Of a park that was under way. */
  because?: ParkCause | undefined;
}

/** @returns null for a VM that the journal does not know: it is awake */
export function recoveredState(journal: Journal, vm: string): RecoveredState | null {
  const record = journal.last(vm, 'vmState');
  if (!record) return null;
  const state = record.body.state as VmState;
  if (state.kind !== 'parking') return { state, since: record.atMs };
  // The phase is not written with each pivot; the saga’s own records say it.
  const records = journal.ofSaga(state.operation);
  const passed = records.some(({ step, event }) => step === 'flip' && event === 'succeeded');
  const { because } = (records[0]?.body.input ?? {}) as Partial<ParkState>;
  return { state: passed ? { ...state, phase: 'after-pivot' } : state, since: record.atMs, because };
}
