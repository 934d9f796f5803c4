/**
 * What a VM is, each state with exactly its data, and the one table of what may follow what.
 *
 *            parkStarted            pivotPassed              parkSucceeded
 *   awake ──────────────▶ parking ──────────────▶ parking ──────────────────▶ parked
 *     ▲ ▲                 before                  after                        │  ▲
 *     │ └── parkUnwound ────┘                                    unparkStarted │  │ unparkUnwound
 *     │                                                                        ▼  │
 *     └──────────────────────────── unparkSucceeded ─────────────────────── unparking
 *
 *   awake, parked, stuck ── deletedOutside ──▶ gone ── registeredAnew (another server has its name) ──▶ awake
 *   parking, unparking ── sagaStuck ──▶ stuck ── unparkStarted (its processes are the sink's) ──▶ unparking
 *                                         └───── unwindResumed (they are the VM's) ─────────────▶ parking, before
 */
import { type ErrorBody, SeamlessError } from '../../common/errors.ts';
import type { Listener } from '../../criu/manifest.ts';
import type { ConnectionPolicy } from '../../sink-agent/api.ts';
import type { Trigger } from '../../sink-agent/trigger.ts';

/** What an unpark must know of the park. */
export interface Parked {
  imageId: string;
  sinkPort: string;
  listeners: Listener[];
  /** How new connections are met, as settled when the park began; the configuration's in old journals. */
  connections?: ConnectionPolicy;
}

/** Packets that want the VM itself: a SYN seen by the switch, or what was found waiting at the VM's port. */
export interface NetworkTrigger {
  /** There is no process yet. */
  program: null;
  pid: null;
  syscall: 'SYN' | 'packet';
  detail: string;
  rule: 'connection.request' | 'packets.waiting';
  /** `203.0.113.7:51312` */
  client?: string;
  /** Where it wants to go. */
  destination?: string;
  port?: number;
}

/** The sink stopped and named no call: its filter ended, or a part of it could not be brought back. */
export interface SinkTrigger {
  program: null;
  pid: null;
  syscall: 'none';
  detail: string;
  rule: 'sink.stopped';
}

export type PlannedCause = 'timer' | 'lease' | 'forecast' | 'policy';

/** Nobody asked: it was known beforehand that the VM will be needed, or the policy forbids that it is parked. */
export interface PlannedTrigger {
  program: null;
  pid: null;
  syscall: 'none';
  /** `backup.timer is due at 2026-11-21T18:40:00.000Z (policy.yaml:9, timers)` */
  detail: string;
  rule: 'timer.due' | 'lease.ends' | 'use.expected' | 'policy.never';
}

/** Somebody asked, elsewhere than here: an alarm, or whoever resumed the VM through Nova. */
export interface AskedTrigger {
  program: null;
  pid: null;
  syscall: 'none';
  /** Completes “woken by”. */
  detail: string;
  rule: 'webhook.alarm' | 'outside.resumed';
}

/** Why a VM wakes. `at` is when the orchestrator learned of it (ISO 8601). */
export type Wake = { at: string } & (
  | { cause: 'syscall'; trigger: Trigger }
  | { cause: 'syn' | 'packets'; trigger: NetworkTrigger }
  | { cause: 'sink'; trigger: SinkTrigger }
  | { cause: PlannedCause; trigger: PlannedTrigger }
  | { cause: 'webhook' | 'outside'; trigger: AskedTrigger }
  | { cause: 'manual'; trigger: null }
);

/** Why a VM is parked: by hand, by an alarm, or by the service itself. */
export type ParkCause =
  | { cause: 'manual' }
  /** `alarm idle-vm1 of user 4f…` */
  | { cause: 'webhook'; by: string }
  /** `rule` names the line of the policy that decided: `idle (policy.yaml:3, windowMs)`. */
  | { cause: 'idle'; rule: string };

export type VmState =
  | { kind: 'awake' }
  | { kind: 'parking'; operation: string; phase: 'before-pivot' | 'after-pivot' }
  | { kind: 'parked'; parked: Parked }
  | { kind: 'unparking'; operation: string; parked: Parked }
  | {
      kind: 'stuck';
      operation: string;
      step: string;
      error: ErrorBody;
      /** `sink`: an unpark can be tried again. `vm`: the park can be taken back again. */
      owner: { at: 'sink'; parked: Parked } | { at: 'vm' };
      /** What the operator should do. */
      next: string;
    }
  /** It was deleted elsewhere, for good. Its sink is destroyed, which is noted when it is done. */
  | {
      kind: 'gone';
      id: string;
      requestId: string | null;
      sinkPort: string | null;
      sink: 'there' | 'destroyed';
    };

export type VmEvent =
  | { type: 'parkStarted'; operation: string }
  | { type: 'pivotPassed' }
  | { type: 'parkSucceeded'; parked: Parked }
  | { type: 'parkUnwound' }
  | { type: 'unparkStarted'; operation: string }
  | { type: 'unparkSucceeded' }
  | { type: 'unparkUnwound' }
  | { type: 'unwindResumed' }
  | { type: 'deletedOutside'; id: string; requestId: string | null }
  | { type: 'sinkForgotten' }
  | { type: 'registeredAnew' }
  | {
      type: 'sagaStuck';
      step: string;
      error: ErrorBody;
      owner: { at: 'sink'; parked: Parked } | { at: 'vm' };
      next: string;
    };

export function transition(state: VmState, event: VmEvent): VmState {
  switch (event.type) {
    case 'parkStarted':
      if (state.kind === 'awake') {
        return { kind: 'parking', operation: event.operation, phase: 'before-pivot' };
      }
      break;
    case 'pivotPassed':
      if (state.kind === 'parking') return { ...state, phase: 'after-pivot' };
      break;
    case 'parkSucceeded':
      if (state.kind === 'parking') return { kind: 'parked', parked: event.parked };
      break;
    case 'parkUnwound':
      if (state.kind === 'parking' && state.phase === 'before-pivot') return { kind: 'awake' };
      break;
    case 'unparkStarted':
      if (state.kind === 'parked') {
        return { kind: 'unparking', operation: event.operation, parked: state.parked };
      }
      if (state.kind === 'stuck' && state.owner.at === 'sink') {
        return { kind: 'unparking', operation: event.operation, parked: state.owner.parked };
      }
      break;
    case 'unparkSucceeded':
      if (state.kind === 'unparking') return { kind: 'awake' };
      break;
    case 'unparkUnwound':
      if (state.kind === 'unparking') return { kind: 'parked', parked: state.parked };
      break;
    case 'unwindResumed':
      if (state.kind === 'stuck' && state.owner.at === 'vm') {
        return { kind: 'parking', operation: state.operation, phase: 'before-pivot' };
      }
      break;
    case 'deletedOutside':
      if (state.kind === 'awake' || state.kind === 'parked' || state.kind === 'stuck') {
        const { id, requestId } = event;
        return { kind: 'gone', id, requestId, sinkPort: sinkPortOf(state), sink: 'there' };
      }
      break;
    case 'sinkForgotten':
      if (state.kind === 'gone') return { ...state, sink: 'destroyed' };
      break;
    case 'registeredAnew':
      if (state.kind === 'gone' && state.sink === 'destroyed') return { kind: 'awake' };
      break;
    case 'sagaStuck':
      if (state.kind === 'parking' || state.kind === 'unparking') {
        const { step, error, owner, next } = event;
        const beforePivot = state.kind === 'parking' && state.phase === 'before-pivot';
        // Past the pivot of a park the sink's processes are the good ones.
        if (owner.at === 'vm' && !beforePivot) break;
        return { kind: 'stuck', operation: state.operation, step, error, owner, next };
      }
      break;
  }
  throw new SeamlessError(
    'ILLEGAL_TRANSITION',
    `Expected an event that may follow “${state.kind}”, got “${event.type}”`,
  );
}

function sinkPortOf(state: Extract<VmState, { kind: 'awake' | 'parked' | 'stuck' }>): string | null {
  if (state.kind === 'parked') return state.parked.sinkPort;
  return state.kind === 'stuck' && state.owner.at === 'sink' ? state.owner.parked.sinkPort : null;
}
