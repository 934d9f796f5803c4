/**
 * What a saga is: one operation as an ordered list of steps, each with what takes it back.
 *
 * - `do` ensures: it looks first, and is safe to repeat, also after a crash in its midst.
 * - `undo` copes with a `do` that did nothing, half or all of its work: it is called for every step that was started.
 * - From the `pivot` on it only goes forward. A failed pivot must know that nothing happened (then the saga unwinds),
 *   or throw `inDoubt` (then the saga is stuck, because a guess could make two copies).
 */
import { type ErrorBody, SeamlessError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';

export interface StepContext {
  /** Aborts at the attempt's deadline; before the pivot also when the VM is wanted. */
  signal: AbortSignal;
  /** Aborts when the VM is wanted: a long step after the pivot may return early then. */
  wanted: AbortSignal;
  log: Log;
}

export interface Step<State> {
  name: string;
  pivot?: true;
  /** Milliseconds for one attempt; 30 s unless told. */
  timeoutMs?: number;
  /** Attempts before the pivot until the saga unwinds; one unless told. After the pivot: until the saga's deadline. */
  attempts?: number;
  /** Gives what later steps need; it is merged into the state and journaled. */
  do(state: Readonly<State>, context: StepContext): Promise<Partial<State> | undefined>;
  undo: ((state: Readonly<State>, context: StepContext) => Promise<void>) | null;
}

export interface SagaDefinition<State> {
  name: string;
  /** In order; the steps of an inner list run at once. */
  steps: readonly (Step<State> | readonly Step<State>[])[];
  /** What to do with a saga that a crash interrupted before its pivot. */
  afterCrash: 'unwind' | 'forward';
  /** Milliseconds for which a step after the pivot, or an undo, is tried again before the saga is stuck. */
  persistMs: number;
  /** Milliseconds before the first further attempt; 100 unless told, doubled each time up to 2 s. */
  retryAfterMs?: number;
}

export type SagaOutcome<State> =
  | { kind: 'succeeded'; state: State }
  | { kind: 'unwound'; state: State; error: ErrorBody }
  | {
      kind: 'stuck';
      state: State;
      error: ErrorBody;
      step: string;
      direction: 'forward' | 'unwinding';
      pivotPassed: boolean;
    };

/** An error of a pivot that may have happened or not. */
export function inDoubt(message: string, cause: unknown): SeamlessError {
  return new SeamlessError('TIMEOUT', message, { cause, details: { inDoubt: true } });
}

/** `value`, which an earlier step must have given. */
export function given<T>(value: T | undefined, name: string): T {
  if (value !== undefined) return value;
  throw new SeamlessError('INTERNAL', `Expected “${name}” from an earlier step, got nothing`);
}
