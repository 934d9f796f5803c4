import { describe, expect, test } from 'vitest';
import { decide, type Request } from '../../../../orchestrator/vm/admission.ts';
import { type Parked, transition, type VmEvent, type VmState } from '../../../../orchestrator/vm/state.ts';

const PARKED: Parked = { imageId: 'p1', sinkPort: 'port', listeners: [] };
const ERROR = { code: 'TIMEOUT', message: 'no answer' } as const;

const STATES: VmState[] = [
  { kind: 'awake' },
  { kind: 'parking', operation: 'o', phase: 'before-pivot' },
  { kind: 'parking', operation: 'o', phase: 'after-pivot' },
  { kind: 'parked', parked: PARKED },
  { kind: 'unparking', operation: 'o', parked: PARKED },
  { kind: 'stuck', operation: 'o', step: 's', error: ERROR, owner: { at: 'vm' }, next: 'n' },
  {
    kind: 'stuck',
    operation: 'o',
    step: 's',
    error: ERROR,
    owner: { at: 'sink', parked: PARKED },
    next: 'n',
  },
];
const EVENTS: VmEvent[] = [
  { type: 'parkStarted', operation: 'o' },
  { type: 'pivotPassed' },
  { type: 'parkSucceeded', parked: PARKED },
  { type: 'parkUnwound' },
  { type: 'unparkStarted', operation: 'o' },
  { type: 'unparkSucceeded' },
  { type: 'unparkUnwound' },
  { type: 'unwindResumed' },
  { type: 'sagaStuck', step: 's', error: ERROR, owner: { at: 'vm' }, next: 'n' },
  { type: 'sagaStuck', step: 's', error: ERROR, owner: { at: 'sink', parked: PARKED }, next: 'n' },
];
const REQUESTS: Request[] = [
  { type: 'park', lost: [] },
  { type: 'park', lost: [{ host: 'hv', since: 's', reason: 'r', next: 'n' }] },
  { type: 'unpark', force: false },
  { type: 'unpark', force: true },
  { type: 'wake' },
];

describe('every sequence of events', () => {
  test('leads through known states alone, and an illegal event changes nothing and says so', () => {
    for (const state of STATES) {
      for (const event of EVENTS) {
        const before = structuredClone(state);
        const next = attempt(state, event);
        expect(state).toEqual(before);
        if (next) expect(STATES.map(label)).toContain(label(next));
      }
    }
  });

  test('passes through “parked” between “parking” and “awake” once the pivot is behind it', () => {
    walk({ kind: 'parking', operation: 'o', phase: 'after-pivot' }, 4, (path) => {
      if (path.at(-1)?.kind !== 'awake') return;
      const kinds = path.map(({ kind }) => kind);
      expect(kinds.includes('parked') || kinds.includes('stuck')).toBe(true);
      expect(kinds).toContain('unparking');
    });
  });

  test('keeps what an unpark needs from the park until the VM is awake', () => {
    walk({ kind: 'parked', parked: PARKED }, 4, (path) => {
      const last = path.at(-1);
      if (last?.kind === 'unparking' || last?.kind === 'parked') expect(last.parked).toEqual(PARKED);
    });
  });

  test('can always go on: no state but “awake” and “parked” is without a way out', () => {
    for (const state of STATES) expect(EVENTS.some((event) => attempt(state, event))).toBe(true);
  });
});

describe('a request', () => {
  test('that is accepted can be carried out in that state', () => {
    const starts: Record<string, VmEvent> = {
      startPark: { type: 'parkStarted', operation: 'o' },
      startUnpark: { type: 'unparkStarted', operation: 'o' },
      resumeUnwinding: { type: 'unwindResumed' },
    };
    for (const state of STATES) {
      for (const request of REQUESTS) {
        const decision = decide(state, request);
        const event = decision.kind === 'accept' ? starts[decision.action] : undefined;
        if (event) expect(attempt(state, event), `${label(state)} ${decision.kind}`).not.toBeNull();
      }
    }
  });

  test('is answered thus in each state', () => {
    const answers = STATES.map((state) => [
      label(state),
      REQUESTS.map((request) => {
        const decision = decide(state, request);
        if (decision.kind === 'accept') return decision.action;
        return decision.kind === 'deny' ? decision.code : 'already';
      }).join(' '),
    ]);
    expect(Object.fromEntries(answers)).toEqual({
      awake: 'startPark HOST_UNREACHABLE already already already',
      'parking before-pivot': 'already already takeParkBack takeParkBack takeParkBack',
      'parking after-pivot': 'already already unparkAfterPark unparkAfterPark unparkAfterPark',
      parked: 'already HOST_UNREACHABLE startUnpark startUnpark startUnpark',
      unparking: 'VM_BUSY VM_BUSY already already already',
      'stuck vm': 'VM_STUCK VM_STUCK VM_STUCK resumeUnwinding VM_STUCK',
      'stuck sink': 'VM_STUCK VM_STUCK VM_STUCK startUnpark VM_STUCK',
    });
  });
});

/** Calls `visit` with every legal path of up to `depth` events. */
function walk(start: VmState, depth: number, visit: (path: VmState[]) => void): void {
  const go = (path: VmState[]) => {
    visit(path);
    if (path.length > depth) return;
    for (const event of EVENTS) {
      const next = attempt(path.at(-1) as VmState, event);
      if (next && next.kind !== 'awake') go([...path, next]);
      else if (next) visit([...path, next]);
    }
  };
  go([start]);
}

function attempt(state: VmState, event: VmEvent): VmState | null {
  try {
    return transition(state, event);
  } catch (thrown) {
    expect(thrown).toMatchObject({ code: 'ILLEGAL_TRANSITION' });
    return null;
  }
}

function label(state: VmState): string {
  if (state.kind === 'parking') return `parking ${state.phase}`;
  if (state.kind === 'stuck') return `stuck ${state.owner.at}`;
  return state.kind;
}
