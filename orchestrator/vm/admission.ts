/**
 * What becomes of a request, by the state of the VM and whether its hosts can be reached. Pure: accept, already so, or deny with a reason.
 * A wake outranks a park: before the pivot the park is taken back, after it the unpark follows at once.
 */
import type { ErrorCode } from '../../common/errors.ts';
import type { HostLoss } from '../host/reachability.ts';
import type { VmState } from './state.ts';

export type Request =
  /** `lost`: those hosts that it needs and that can’t be reached. */
  | { type: 'park'; lost: readonly HostLoss[] }
  /** `force` retries what got stuck. */
  | { type: 'unpark'; force: boolean }
  /** Activity at the sink, or a held connection request. */
  | { type: 'wake' };

export type Decision =
  | {
      kind: 'accept';
      action: 'startPark' | 'startUnpark' | 'takeParkBack' | 'unparkAfterPark' | 'resumeUnwinding';
    }
  | { kind: 'already'; operation: string | null }
  | { kind: 'deny'; code: ErrorCode; message: string };

export function decide(state: VmState, request: Request): Decision {
  return request.type === 'park' ? decidePark(state, request.lost) : decideUnpark(state, request);
}

function decidePark(state: VmState, [lost]: readonly HostLoss[]): Decision {
  switch (state.kind) {
    case 'awake':
      if (lost) return { kind: 'deny', code: 'HOST_UNREACHABLE', message: lostMessage(lost) };
      return { kind: 'accept', action: 'startPark' };
    case 'parking':
      return { kind: 'already', operation: state.operation };
    case 'parked':
      if (lost) return { kind: 'deny', code: 'HOST_UNREACHABLE', message: lostMessage(lost) };
      return { kind: 'already', operation: null };
    case 'unparking':
      return { kind: 'deny', code: 'VM_BUSY', message: 'The VM is waking up' };
    case 'stuck':
      return { kind: 'deny', code: 'VM_STUCK', message: stuckMessage(state) };
    case 'gone':
      return GONE;
  }
}

function decideUnpark(state: VmState, request: Exclude<Request, { type: 'park' }>): Decision {
  switch (state.kind) {
    case 'awake':
      return { kind: 'already', operation: null };
    case 'parking':
      return { kind: 'accept', action: state.phase === 'before-pivot' ? 'takeParkBack' : 'unparkAfterPark' };
    case 'parked':
      return { kind: 'accept', action: 'startUnpark' };
    case 'unparking':
      return { kind: 'already', operation: state.operation };
    case 'stuck':
      if (request.type === 'unpark' && request.force) {
        return { kind: 'accept', action: state.owner.at === 'sink' ? 'startUnpark' : 'resumeUnwinding' };
      }
      return { kind: 'deny', code: 'VM_STUCK', message: stuckMessage(state) };
    case 'gone':
      return GONE;
  }
}

const GONE: Decision = { kind: 'deny', code: 'VM_GONE', message: 'The VM was deleted' };

function lostMessage({ host, since, reason, next }: HostLoss): string {
  return `It is not parked while ${host} can’t be reached (since ${since}): ${reason}. ${next}`;
}

function stuckMessage(state: Extract<VmState, { kind: 'stuck' }>): string {
  return `The VM is stuck at ${state.step}: ${state.error.message} ${state.next}`;
}
