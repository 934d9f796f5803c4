/** What the driver writes into the journal of a VM, beside what its sagas write. */
import type { NewRecord } from '../saga/journal.ts';
import type { RequestNote } from './driver-deps.ts';
import type { VmState, Wake } from './state.ts';

export function stateRecord(vm: string, from: VmState['kind'], state: VmState): NewRecord {
  return { vm, event: 'vmState', body: { from, state } };
}

/** @param operation null when it has to wait */
export function wakeRecord(vm: string, wake: Wake, operation: string | null): NewRecord {
  return { vm, event: 'wake', body: { ...wake, operation } };
}

export function requestRecords(vm: string, note: RequestNote | undefined, operation: string): NewRecord[] {
  return note ? [{ vm, saga: operation, event: 'request', body: note }] : [];
}
