/** What the end of a saga means for the VM’s state. Pure. */
import { SeamlessError } from '../../common/errors.ts';
import type { SagaOutcome } from '../saga/definition.ts';
import type { ParkState } from '../sagas/park.ts';
import type { UnparkState } from '../sagas/unpark.ts';
import type { VmEvent, VmState } from './state.ts';

export function parkEvent(vm: string, outcome: SagaOutcome<ParkState>): VmEvent {
  if (outcome.kind === 'unwound') return { type: 'parkUnwound' };
  const { imageId, sinkPort = '', listeners = [], connections } = outcome.state;
  const parked = { imageId, sinkPort, listeners, ...(connections ? { connections } : {}) };
  if (outcome.kind === 'succeeded') return { type: 'parkSucceeded', parked };
  // Unwinding: the VM’s image is the good one. Forward: at the flip or after it, so the sink’s processes are.
  return stuckEvent(vm, outcome, outcome.direction === 'forward' ? { at: 'sink', parked } : { at: 'vm' });
}

export function unparkEvent(vm: string, outcome: SagaOutcome<UnparkState>, state: VmState): VmEvent {
  if (outcome.kind === 'succeeded') return { type: 'unparkSucceeded' };
  if (outcome.kind === 'unwound') return { type: 'unparkUnwound' };
  if (state.kind !== 'unparking') throw new SeamlessError('INTERNAL', 'Expected to be unparking');
  // Also when the VM may have the processes already: another unpark looks before each step.
  return stuckEvent(vm, outcome, { at: 'sink', parked: state.parked });
}

type Stuck = Extract<VmEvent, { type: 'sagaStuck' }>;

function stuckEvent(
  vm: string,
  { step, error }: Extract<SagaOutcome<object>, { kind: 'stuck' }>,
  owner: Stuck['owner'],
): Stuck {
  const next = `Mend the cause, then run \`seamless unpark ${vm} --force\`: it looks before each step and is safe.`;
  return { type: 'sagaStuck', step, error, owner, next };
}
