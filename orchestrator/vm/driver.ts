/**
 * One VM: owns its state, decides on requests, runs its sagas. Everything that concerns the VM comes through here.
 *
 * Its mailbox is the event loop: each method runs from state to state without waiting, so that two messages never
 * mix, and at most one saga runs at a time. The state is written to the journal before anything acts on it.
 * Triggers are levels, not edges: at a start, after a park and after a reconnection the driver looks for what it may
 * have missed (a frozen sink, a held connection request). A wake that fails is tried again, with back-off.
 */
import { randomBytes } from 'node:crypto';
import { asSeamlessError, type ErrorBody, SeamlessError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { SinkStatus } from '../../sink-agent/api.ts';
import type { HostLoss } from '../host/reachability.ts';
import type { SagaOutcome } from '../saga/definition.ts';
import { createSaga, runSaga } from '../saga/engine.ts';
import type { NewRecord } from '../saga/journal.ts';
import type { ParkState } from '../sagas/park.ts';
import type { Held } from '../sagas/ports.ts';
import type { UnparkState } from '../sagas/unpark.ts';
import { decide } from './admission.ts';
import type { DriverDeps, Move, Reply, RequestNote } from './driver-deps.ts';
import { parkEvent, unparkEvent } from './outcome.ts';
import { type OutsideChange, OutsideNotes, outsideLine } from './outside-change.ts';
import { requestRecords, stateRecord, wakeRecord } from './records.ts';
import { recoveredState } from './recovered-state.ts';
import { SinkForgetting } from './sink-forgetting.ts';
import { type ParkCause, transition, type VmEvent, type VmState, type Wake } from './state.ts';
import { askedWake, heldWake, manualWake, sinkWake } from './wake.ts';
import { WakeRetry } from './wake-retry.ts';

export class VmDriver {
  readonly #deps: DriverDeps;
  readonly #log: Log;
  readonly #retry = new WakeRetry();
  #state: VmState = { kind: 'awake' };
  #since = Date.now();
  #wanted = new AbortController();
  #pendingWake: Wake | null = null;
  #parkBecause: ParkCause = { cause: 'manual' };
  #takenBackFor: Move['cause'] = null;
  /** Who asked for the VM before the pivot: when that comes first all the same, the wake follows. */
  #takenBackBy: Wake | null = null;
  #afterPark: PromiseWithResolvers<Reply> | null = null;
  #running: Promise<void> = Promise.resolve();
  #stopped = false;
  readonly #outside: OutsideNotes | null;
  readonly #forgetting: SinkForgetting | null;

  constructor(deps: DriverDeps) {
    this.#deps = deps;
    this.#log = deps.log.with({ vmId: deps.vm });
    this.#outside = deps.outside ? new OutsideNotes(deps.journal, deps.vm, deps.outside) : null;
    this.#forgetting = deps.outside ? new SinkForgetting(deps.outside, this.#log) : null;
  }

  get name(): string {
    return this.#deps.vm;
  }

  get state(): VmState {
    return this.#state;
  }

  /** Set while its host can’t be reached: the state is then what it was when last seen. */
  get hostLost(): HostLoss | null {
    return this.#deps.hostLost();
  }

  /** What somebody else did to the VM that is in the way; null when nothing is. */
  get outside(): string | null {
    const notes = this.#outside;
    if (notes?.deleted) return `it ${outsideLine(notes.deleted)}: take it out of the configuration`;
    return notes?.marks.place ?? notes?.marks.power ?? null;
  }

  get since(): number {
    return this.#since;
  }

  /** Takes up the state of the journal; an interrupted saga goes on in the background. */
  start(): void {
    const { journal, vm } = this.#deps;
    const recovered = recoveredState(journal, vm);
    if (recovered) {
      this.#state = recovered.state;
      this.#since = recovered.since;
    }
    this.#outside?.start();
    const state = this.#state;
    if (state.kind === 'parking') {
      this.#parkBecause = recovered?.because ?? this.#parkBecause;
      this.#run('park', state.operation, 'recovered');
    } else if (state.kind === 'unparking') {
      this.#run('unpark', state.operation, 'recovered');
    } else if (state.kind === 'parked') {
      this.lookAgain();
    } else if (state.kind === 'awake') {
      this.#deps.watch.resume();
    }
    if (state.kind === 'gone') this.#returnFromGone(state);
    this.#settleDeletion();
  }

  /** @throws SeamlessError when the request is denied */
  park(because: ParkCause = { cause: 'manual' }, note?: RequestNote): Reply {
    const { hostLost, sinkHostLost } = this.#deps;
    const lost = [hostLost(), sinkHostLost()].filter((loss) => loss !== null);
    const decision = decide(this.#state, { type: 'park', lost });
    if (decision.kind === 'deny') throw this.#denied(decision);
    const { power = null, place = null } = this.#outside?.marks ?? {};
    const inTheWay = power ?? place;
    if (decision.kind === 'accept' && inTheWay) throw this.#denied({ code: 'VM_OUTSIDE', message: inTheWay });
    if (decision.kind === 'already') return { already: true, operation: decision.operation };
    const operation = this.#newOperation('park');
    this.#deps.watch.leave();
    this.#parkBecause = because;
    const input: ParkState = { imageId: operation, because };
    this.#begin('park', operation, { type: 'parkStarted', operation }, input, { note });
    return { already: false, operation };
  }

  /** Somebody uses the VM again: a park that the service began by itself is taken back, if it still can be. */
  abortPark(): boolean {
    const state = this.#state;
    if (state.kind !== 'parking' || state.phase !== 'before-pivot') return false;
    if (this.#parkBecause.cause !== 'idle' || this.#wanted.signal.aborted) return false;
    this.#takenBackFor = 'use';
    this.#wanted.abort();
    return true;
  }

  /** @throws SeamlessError when the request is denied */
  async unpark(
    { force, wake = manualWake() }: { force: boolean; wake?: Wake },
    note?: RequestNote,
  ): Promise<Reply> {
    const decision = decide(this.#state, { type: 'unpark', force });
    if (decision.kind === 'deny') throw this.#denied(decision);
    const place = this.#outside?.marks.place;
    if (place && decision.kind === 'accept') throw this.#denied({ code: 'VM_OUTSIDE', message: place });
    if (decision.kind === 'already') return { already: true, operation: decision.operation };
    switch (decision.action) {
      case 'takeParkBack':
        this.#takenBackFor = wake.cause;
        this.#takenBackBy = wake;
        this.#wanted.abort();
        return { already: false, operation: this.#operation() };
      case 'unparkAfterPark':
        this.#wakeLater(wake);
        this.#afterPark ??= Promise.withResolvers<Reply>();
        return this.#afterPark.promise;
      case 'resumeUnwinding': {
        const operation = this.#operation() as string;
        this.#apply({ type: 'unwindResumed' });
        this.#run('park', operation, 'recovered');
        return { already: false, operation };
      }
      default:
        return { already: false, operation: this.#startUnpark(wake, note) };
    }
  }

  /** Activity: at the sink, or a connection request at the VM’s port. Duplicates coalesce. */
  wake(wake: Wake): void {
    if (this.#stopped) return;
    const decision = decide(this.#state, { type: 'wake' });
    if (decision.kind !== 'accept') return this.#log.debug('wake.ignored', { state: this.#state.kind });
    this.#log.info('wake', { cause: wake.cause, detail: wake.trigger?.detail });
    if (decision.action === 'startUnpark') {
      if (!this.#retry.isWaiting && this.#canWake()) this.#startUnpark(wake);
      else this.#wakeLater(wake);
      return;
    }
    this.#wakeLater(wake);
  }

  /** A wake that failed or had to wait is tried again, if anybody still wants the VM. */
  retryWake(): void {
    if (this.#stopped || this.#state.kind !== 'parked') return;
    if (this.#pendingWake && this.#canWake()) this.#startUnpark(this.#pendingWake);
    else this.lookAgain();
  }

  /** What the sink agent says of this VM’s sink, at a change and at each connection. */
  sinkSays(sink: SinkStatus): void {
    if ((sink.state === 'frozen' || sink.state === 'lost') && this.#sinkOwns()) this.wake(sinkWake(sink));
  }

  /**
   * Somebody else has changed the VM. What follows from it is in the journal when this resolves. A deletion is asked after, since
   * what a sink holds is destroyed then; when nobody can say, this throws, to be told again.
   */
  async changedOutside(change: OutsideChange): Promise<void> {
    const { outside } = this.#deps;
    if (!outside || !this.#outside || this.#state.kind === 'gone') return;
    if (change.what === 'deleted' && !(await outside.isGone())) {
      return this.#log.warn('outside.notGone', { ...change });
    }
    if (this.#stopped) throw new SeamlessError('ABORTED', `${this.name}: the service ends`);
    this.#outside.note(change);
    this.#log.info('outside', { ...change });
    if (change.what === 'deleted') return this.#settleDeletion();
    if (change.what === 'resumed' && this.#sinkOwns()) {
      const request = change.requestId ? ` (request ${change.requestId})` : '';
      this.wake(askedWake('outside', `somebody who resumed it through ${change.by}${request}`));
    }
    if (change.what === 'moved' && !this.#outside.marks.place) this.retryWake();
  }

  /** Looks for what may have been missed, and puts back what may have been forgotten. */
  lookAgain(): void {
    const state = this.#state;
    if (state.kind !== 'parked') return;
    const look = async () => {
      const [reasserted] = await Promise.allSettled([this.#deps.reassert(state.parked)]);
      const [held, sink] = await Promise.all([this.#deps.held(), this.#deps.sink()]);
      if (this.#state !== state) return;
      if (held.packets > 0) this.wake(heldWake(held));
      // After a failed wake it may have gone on and been stopped again while nobody listened.
      if (sink) this.sinkSays(sink);
      // The flows can't lead to a sink that is lost; it has woken the VM just now.
      if (reasserted.status === 'rejected') throw reasserted.reason;
    };
    look().catch((error) => this.#log.warn('look.failed', { error }));
  }

  /** Resolves when no saga runs. */
  async idle(): Promise<void> {
    let running: Promise<void>;
    do {
      running = this.#running;
      await running;
    } while (running !== this.#running);
  }

  /** Starts nothing more. A saga that runs is left to the journal. */
  stop(): void {
    this.#stopped = true;
    this.#deps.watch.stop();
    this.#retry.cancel();
    this.#forgetting?.stop();
  }

  #sinkOwns(): boolean {
    const { kind } = this.#state;
    return kind === 'parked' || (kind === 'parking' && this.#state.phase === 'after-pivot');
  }

  #canWake(): boolean {
    return !this.#deps.hypervisorLost() && this.#deps.hostLost() === null && !this.#outside?.marks.place;
  }

  /** The first cause counts; later ones add nothing to it. */
  #wakeLater(wake: Wake): void {
    if (this.#pendingWake === null) {
      this.#pendingWake = wake;
      this.#deps.journal.append([wakeRecord(this.name, wake, null)]);
    }
    this.#takenBackFor = this.#pendingWake.cause;
    this.#wanted.abort();
  }

  #startUnpark(wake: Wake, note?: RequestNote): string {
    const operation = this.#newOperation('unpark');
    this.#retry.cancel();
    const isRecorded = wake === this.#pendingWake;
    this.#pendingWake = null;
    const event: VmEvent = { type: 'unparkStarted', operation };
    const next = transition(this.#state, event);
    if (next.kind !== 'unparking') throw new SeamlessError('INTERNAL', 'Expected to be unparking');
    const { imageId: parkImageId, ...parked } = next.parked;
    const input: UnparkState = { imageId: operation, parkImageId, ...parked, wake };
    const before = isRecorded ? [] : [wakeRecord(this.name, wake, operation)];
    this.#begin('unpark', operation, event, input, { before, note, cause: wake.cause });
    return operation;
  }

  /** The saga and the VM’s new state are one record in time: a crash finds both or neither. */
  #begin(
    definition: 'park' | 'unpark',
    operation: string,
    event: VmEvent,
    input: object,
    {
      before = [],
      note,
      cause = null,
    }: { before?: readonly NewRecord[]; note?: RequestNote | undefined; cause?: Move['cause'] } = {},
  ): void {
    const { journal, vm } = this.#deps;
    const next = transition(this.#state, event);
    createSaga(
      journal,
      { id: operation, vm, definition, input },
      {
        before,
        after: [
          stateRecord(this.name, this.#state.kind, next),
          ...requestRecords(this.name, note, operation),
        ],
      },
    );
    this.#enter(next, cause);
    this.#run(definition, operation, 'fresh');
  }

  #run(definition: 'park' | 'unpark', operation: string, how: 'fresh' | 'recovered'): void {
    const { journal, log, park, unpark } = this.#deps;
    this.#wanted = new AbortController();
    this.#takenBackFor = null;
    this.#takenBackBy = null;
    const deps = { journal, log, wanted: this.#wanted.signal };
    const along = (event: VmEvent) => [
      stateRecord(this.name, this.#state.kind, transition(this.#state, event)),
    ];
    const ended =
      definition === 'park'
        ? runSaga(
            park,
            operation,
            {
              ...deps,
              onDone: (...step) => this.#parkStepDone(...step),
              alongEnd: (outcome) => along(parkEvent(this.name, outcome)),
            },
            how,
          ).then((outcome) => this.#parkEnded(outcome))
        : runSaga(
            unpark,
            operation,
            {
              ...deps,
              wanted: new AbortController().signal, // A wake is not taken back because the VM is wanted.
              alongEnd: (outcome) => along(unparkEvent(this.name, outcome, this.#state)),
            },
            how,
          ).then((outcome) => this.#unparkEnded(outcome));
    this.#running = ended
      .then(() => this.#settleDeletion())
      .catch((thrown) => {
        this.#log.error('driver.fatal', { error: asSeamlessError(thrown) });
        this.#deps.onFatal(thrown);
      });
  }

  #parkStepDone(step: { name: string; pivot?: true }, output: { held?: Held }): void {
    if (step.pivot) this.#enter(transition(this.#state, { type: 'pivotPassed' }));
    if (step.name === 'divert' && output.held?.packets) this.wake(heldWake(output.held));
  }

  /** The new state is in the journal already, with the saga’s end. */
  #parkEnded(outcome: SagaOutcome<ParkState>): void {
    const error = outcome.kind === 'unwound' ? outcome.error : null;
    this.#enter(transition(this.#state, parkEvent(this.name, outcome)), this.#takenBackFor, error);
    if (outcome.kind === 'unwound') {
      this.#pendingWake = null;
      return this.#settleAfterPark({ already: true, operation: null });
    }
    if (outcome.kind === 'stuck') {
      return this.#settleAfterPark(new SeamlessError('VM_STUCK', outcome.error.message));
    }
    const wake = this.#pendingWake ?? this.#takenBackBy;
    if (wake && !this.#outside?.marks.place) {
      return this.#settleAfterPark({ already: false, operation: this.#startUnpark(wake) });
    }
    const place = this.#outside?.marks.place;
    if (place) this.#settleAfterPark(new SeamlessError('VM_OUTSIDE', `${this.name}: ${place}`));
    this.lookAgain();
  }

  #unparkEnded(outcome: SagaOutcome<UnparkState>): void {
    const operation = this.#operation();
    this.#enter(transition(this.#state, unparkEvent(this.name, outcome, this.#state)));
    if (outcome.kind === 'unwound') return this.#retry.failed(() => this.retryWake());
    if (outcome.kind === 'stuck') return;
    this.#retry.succeeded();
    this.#outside?.runs();
    if (operation !== null) this.#deps.watch.begin(operation);
  }

  #returnFromGone(state: Extract<VmState, { kind: 'gone' }>): void {
    if (state.sink === 'there') return this.#forgetSink();
    if (state.id !== this.#deps.outside?.id) this.#apply({ type: 'registeredAnew' });
  }

  /** A saga that is under way ends first; then there is one sink, or none. */
  #settleDeletion(): void {
    const { kind } = this.#state;
    const deleted = this.#outside?.deleted;
    if (!deleted || (kind !== 'awake' && kind !== 'parked' && kind !== 'stuck')) return;
    this.#retry.cancel();
    this.#pendingWake = null;
    this.#deps.watch.leave();
    const id = this.#deps.outside?.id ?? '';
    this.#apply({ type: 'deletedOutside', id, requestId: deleted.requestId });
    this.#forgetSink();
  }

  #forgetSink(): void {
    const state = this.#state;
    if (this.#stopped || state.kind !== 'gone') return;
    this.#forgetting?.forget(state.sinkPort, () => this.#apply({ type: 'sinkForgotten' }));
  }

  #settleAfterPark(result: Reply | SeamlessError): void {
    const waiting = this.#afterPark;
    this.#afterPark = null;
    if (result instanceof SeamlessError) waiting?.reject(result);
    else waiting?.resolve(result);
  }

  #apply(event: VmEvent): void {
    const next = transition(this.#state, event);
    this.#deps.journal.append([stateRecord(this.name, this.#state.kind, next)]);
    this.#enter(next);
  }

  #enter(next: VmState, cause: Move['cause'] = null, error: ErrorBody | null = null): void {
    const from = this.#state.kind;
    this.#state = next;
    this.#since = Date.now();
    this.#log.info('vm.state', { from, to: next.kind });
    if (next.kind !== from) this.#deps.onMove?.({ state: next.kind, cause, error });
  }

  #operation(): string | null {
    return 'operation' in this.#state ? this.#state.operation : null;
  }

  #newOperation(kind: 'park' | 'unpark'): string {
    return `${kind}-${this.name}-${Date.now().toString(36)}${randomBytes(2).toString('hex')}`;
  }

  #denied({ code, message }: { code: SeamlessError['code']; message: string }): SeamlessError {
    return new SeamlessError(code, `${this.name}: ${message}`, { details: { state: this.#state.kind } });
  }
}
