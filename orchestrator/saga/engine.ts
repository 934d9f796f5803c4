/**
 * Runs a saga: forward through its steps, or back through their undos, with each event in the journal before the next.
 *
 *            failure or `wanted`, pivot not passed
 *   forward ────────────────────────────────────────▶ unwinding ──▶ unwound
 *      │ └─▶ succeeded                                    └──▶ stuck (an undo failed)
 *      └──▶ stuck (past the pivot a step kept failing, or the pivot is in doubt)
 *
 * The success of one step and the start of the next are one transaction. A flush to the disk takes milliseconds, which a wake waits for, so
 * only what decides about the way after a crash is flushed before it takes effect: the intent, the pivot's start and success, each undo,
 * the end, and each step of a saga that a crash unwinds. Where a crash goes forward the notes of the steps go along with the next flush.
 * After a crash `runSaga` reads the journal and goes on; every `do` and `undo` may then run again.
 */
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import { asSeamlessError, type ErrorBody, SeamlessError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { SagaDefinition, SagaOutcome, Step, StepContext } from './definition.ts';
import type { Flush, Journal, NewRecord } from './journal.ts';
import { isStepEvent, nextStatus, type StepEvent, type StepStatus } from './status.ts';

export interface SagaDeps<State extends object> {
  journal: Journal;
  log: Log;
  /** Aborts when the VM is wanted: unwinds before the pivot, hurries after it. */
  wanted: AbortSignal;
  /** Called for each step that succeeded; for the pivot once that is durable. */
  onDone?: (step: { name: string; pivot?: true }, output: object) => void;
  /** What else holds from its end on: one transaction with it, so that a crash finds both or neither, and one flush. */
  alongEnd?: (outcome: SagaOutcome<State>) => readonly NewRecord[];
}

const WANTED = 'The VM is wanted';

export interface NewSaga {
  id: string;
  vm: string;
  definition: string;
  input: object;
}

/** Records the intent; in the same transaction `before` (what caused it) and `after` it (the VM's new state). */
export function createSaga(
  journal: Journal,
  saga: NewSaga,
  { before = [], after = [] }: { before?: readonly NewRecord[]; after?: readonly NewRecord[] } = {},
): void {
  const { id, vm, definition, input } = saga;
  const created: NewRecord = { vm, saga: id, event: 'sagaCreated', body: { definition, input } };
  journal.append([...before, created, ...after]);
}

/** Runs saga `id` from where the journal says it is. @param how `fresh` for one just created, else after a crash or on a retry. */
export async function runSaga<State extends object>(
  definition: SagaDefinition<State>,
  id: string,
  deps: SagaDeps<State>,
  how: 'fresh' | 'recovered' = 'fresh',
): Promise<SagaOutcome<State>> {
  // Whoever asked is answered by what is durable already, and waits for no flush of the first step.
  if (how === 'fresh') await nextTurn();
  const run = new SagaRun(definition, id, deps);
  const started = performance.now();
  const outcome = await run.execute(how);
  const { state: _state, ...ended } = outcome;
  run.finish({ ...ended, ms: performance.now() - started }, deps.alongEnd?.(outcome));
  return outcome;
}

class SagaRun<State extends object> {
  readonly #definition: SagaDefinition<State>;
  readonly #id: string;
  readonly #deps: SagaDeps<State>;
  readonly #groups: readonly (readonly Step<State>[])[];
  readonly #status = new Map<string, StepStatus>();
  readonly #vm: string;
  #state: State;
  #carried: NewRecord[] = [];
  #failure: ErrorBody | null = null;

  constructor(definition: SagaDefinition<State>, id: string, deps: SagaDeps<State>) {
    this.#definition = definition;
    this.#id = id;
    this.#groups = definition.steps.map((entry) => (Array.isArray(entry) ? entry : [entry as Step<State>]));
    const [created, ...records] = deps.journal.ofSaga(id);
    if (created?.event !== 'sagaCreated' || created.body.definition !== definition.name) {
      throw new SeamlessError(
        'JOURNAL_INCOMPATIBLE',
        `Expected a ${definition.name} saga ${id} in the journal`,
      );
    }
    this.#vm = created.vm;
    this.#deps = { ...deps, log: deps.log.with({ vmId: this.#vm, sagaId: id }) };
    this.#state = created.body.input as State;
    for (const { step, event, body } of records) {
      if (step === null || !isStepEvent(event)) continue;
      this.#status.set(step, nextStatus(this.#of(step), event));
      if (event === 'succeeded') this.#state = { ...this.#state, ...(body.output as Partial<State>) };
      if (event === 'failed') this.#failure = body.error as ErrorBody;
    }
  }

  async execute(how: 'fresh' | 'recovered'): Promise<SagaOutcome<State>> {
    const mustUnwind = this.#mustUnwind(how);
    if (how === 'recovered') {
      const begun = mustUnwind ? [] : this.#perhapsBegun().map(({ name }) => this.#record(name, 'started'));
      this.#write([this.#record(undefined, 'sagaResumed'), ...begun]);
    }
    if (mustUnwind) return this.#unwind();
    for (const group of this.#groups) {
      const pending = group.filter((step) => this.#of(step.name) !== 'done');
      if (pending.length === 0) continue;
      const failed = await this.#runGroup(pending);
      if (!failed) continue;
      this.#failure = failed.error.toBody();
      const doubt = failed.error.details.inDoubt === true;
      if (this.#pivotPassed() || doubt) return this.#stuck(failed.step, this.#failure, 'forward');
      return this.#unwind();
    }
    return { kind: 'succeeded', state: this.#state };
  }

  finish(body: object, along: readonly NewRecord[] = []): void {
    this.#write([this.#record(undefined, 'sagaEnded', body), ...along]);
  }

  /** A pivot that was begun when the process died may have happened: only `do`, which looks first, can tell. */
  #mustUnwind(how: 'fresh' | 'recovered'): boolean {
    const statuses = [...this.#status.values()];
    if (statuses.some((status) => ['undoing', 'undone', 'undoFailed'].includes(status))) return true;
    if (how === 'fresh' || this.#pivotBegun()) return false;
    return this.#definition.afterCrash === 'unwind' || statuses.includes('failed');
  }

  async #runGroup(group: readonly Step<State>[]): Promise<{ step: string; error: SeamlessError } | null> {
    if (!this.#pivotBegun() && this.#deps.wanted.aborted) {
      return { step: group[0]?.name ?? '', error: new SeamlessError('ABORTED', WANTED) };
    }
    const starts = group.map((step) => this.#record(step.name, 'started'));
    this.#write(starts, this.#goesForwardAnyhow(group) ? 'later' : 'now');
    const results = await Promise.all(group.map((step) => this.#attempt(step)));
    let failed: { step: string; error: SeamlessError } | null = null;
    for (const [index, result] of results.entries()) {
      const step = group[index] as Step<State>;
      const ms = result.ms;
      if (result.error) {
        failed ??= { step: step.name, error: result.error };
        this.#carry(step, 'failed', { ms, error: result.error.toBody() });
      } else {
        this.#state = { ...this.#state, ...result.output };
        this.#carry(step, 'succeeded', { ms, output: result.output ?? {} });
        // Whoever hears of it may act on it, so it must be durable; other successes are flushed with the next start.
        if (step.pivot) this.#write([]);
        this.#deps.onDone?.(step, result.output ?? {});
      }
    }
    return failed; // Written with what follows: the first undo, or the end.
  }

  async #attempt(
    step: Step<State>,
  ): Promise<{ ms: number; output?: Partial<State> | undefined; error?: SeamlessError }> {
    const started = performance.now();
    const mayUnwind = !this.#pivotPassed();
    let deadline: number | null = null;
    for (let attempt = 1; ; attempt += 1) {
      try {
        const output = await step.do(this.#state, this.#context(step, mayUnwind && !step.pivot));
        return { ms: performance.now() - started, output };
      } catch (thrown) {
        const error = this.#inWords(asSeamlessError(thrown));
        deadline ??= performance.now() + this.#definition.persistMs;
        const goOn =
          mayUnwind && error.details.inDoubt !== true
            ? attempt < (step.attempts ?? 1) && !this.#deps.wanted.aborted
            : performance.now() < deadline;
        this.#deps.log.warn('step.failed', { step: step.name, attempt, again: goOn, error });
        if (!goOn) return { ms: performance.now() - started, error };
        await delay(this.#backoffMs(attempt));
      }
    }
  }

  /** Which call was cut off is nothing to whoever wanted the VM. */
  #inWords(error: SeamlessError): SeamlessError {
    if (error.code !== 'ABORTED' || !this.#deps.wanted.aborted) return error;
    return new SeamlessError('ABORTED', WANTED, { cause: error, details: error.details });
  }

  async #unwind(): Promise<SagaOutcome<State>> {
    const begun = this.#groups.flat().filter(({ name }) => !['untouched', 'undone'].includes(this.#of(name)));
    for (const step of begun.reverse()) {
      // Where there is nothing to undo, nothing follows that would have to wait for a flush.
      if (step.undo) this.#write([this.#record(step.name, 'undoStarted')]);
      else this.#carried.push(this.#record(step.name, 'undoStarted'));
      const started = performance.now();
      const error = await this.#attemptUndo(step);
      const ms = performance.now() - started;
      if (error) {
        this.#carry(step, 'undoFailed', { ms, error: error.toBody() });
        return this.#stuck(step.name, error.toBody(), 'unwinding');
      }
      this.#carry(step, 'undoFinished', { ms });
    }
    const error =
      this.#failure ?? new SeamlessError('ABORTED', 'A crash interrupted it; it was taken back').toBody();
    return { kind: 'unwound', state: this.#state, error };
  }

  async #attemptUndo(step: Step<State>): Promise<SeamlessError | null> {
    let deadline: number | null = null;
    for (let attempt = 1; ; attempt += 1) {
      try {
        await step.undo?.(this.#state, this.#context(step, false));
        return null;
      } catch (thrown) {
        const error = asSeamlessError(thrown);
        deadline ??= performance.now() + this.#definition.persistMs;
        this.#deps.log.warn('undo.failed', { step: step.name, attempt, error });
        if (performance.now() >= deadline) return error;
        await delay(this.#backoffMs(attempt));
      }
    }
  }

  #stuck(step: string, error: ErrorBody, direction: 'forward' | 'unwinding'): SagaOutcome<State> {
    return { kind: 'stuck', state: this.#state, error, step, direction, pivotPassed: this.#pivotPassed() };
  }

  #context(step: Step<State>, wantedAborts: boolean): StepContext {
    const timeout = AbortSignal.timeout(step.timeoutMs ?? 30_000);
    const { wanted, log } = this.#deps;
    return {
      signal: wantedAborts ? AbortSignal.any([timeout, wanted]) : timeout,
      wanted,
      log: log.with({ step: step.name }),
    };
  }

  /** Steps whose start the journal need not know of, since the machine died: should this run unwind, they are undone as well. */
  #perhapsBegun(): Step<State>[] {
    const pivot = this.#groups.findIndex((group) => group.some((step) => step.pivot));
    const before = this.#groups.slice(0, pivot).filter((group) => this.#goesForwardAnyhow(group));
    return before.flat().filter(({ name }) => this.#of(name) === 'untouched');
  }

  /** `group` is done again after a crash, whether the journal knows of its start or not. */
  #goesForwardAnyhow(group: readonly Step<State>[]): boolean {
    return (
      (this.#definition.afterCrash === 'forward' || this.#pivotPassed()) && !group.some(({ pivot }) => pivot)
    );
  }

  #of(step: string): StepStatus {
    return this.#status.get(step) ?? 'untouched';
  }

  #pivotPassed(): boolean {
    return this.#groups.flat().some((step) => step.pivot && this.#of(step.name) === 'done');
  }

  #pivotBegun(): boolean {
    const doubt = this.#failure?.details?.inDoubt === true;
    return this.#groups.flat().some((step) => {
      const status = this.#of(step.name);
      return step.pivot && (status === 'running' || status === 'done' || (status === 'failed' && doubt));
    });
  }

  #record(step: string | undefined, event: NewRecord['event'], body: object = {}): NewRecord {
    const record: NewRecord = { vm: this.#vm, saga: this.#id, event, body };
    if (step === undefined) return record;
    this.#status.set(step, nextStatus(this.#of(step), event as StepEvent));
    return { ...record, step };
  }

  /** Notes an event to be written together with the next. */
  #carry(
    step: Step<State>,
    event: StepEvent,
    body: { ms: number; error?: ErrorBody; output?: object },
  ): void {
    this.#carried.push(this.#record(step.name, event, body));
    this.#deps.log.info(`step.${event}`, { step: step.name, ms: Math.round(body.ms) });
  }

  #write(records: readonly NewRecord[], flush: Flush = 'now'): void {
    const all = [...this.#carried, ...records];
    this.#carried = [];
    this.#deps.journal.append(all, flush);
  }

  #backoffMs(attempt: number): number {
    return Math.min(2000, (this.#definition.retryAfterMs ?? 100) * 2 ** (attempt - 1));
  }
}
