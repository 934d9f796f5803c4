/**
 * Watches what a VM does in the minute after a wake, and has it judged (wake-verdict.ts): false wakes are counted.
 *
 *   begin ── first look, journaled ──▶ waiting ── a minute ──▶ last look ──▶ judged
 *                                        └── parked again, or the orchestrator was away ──▶ judged: unknown
 *
 * Both looks and the verdict are in the journal, so that a new process goes on where the old one was. It only looks: the
 * VM may be parked at any time. A wake by hand is nobody's mistake and is not judged, nor is one ahead of a timer, a lease's end or a
 * use: what it is for comes later than a minute.
 */
import { asSeamlessError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { GuestUsage } from '../../vm-agent/api.ts';
import type { Journal, JournalRecord } from '../saga/journal.ts';
import type { Sent } from '../sagas/ports.ts';
import type { UnparkState } from '../sagas/unpark.ts';
import { isPlanned } from './wake.ts';
import { type Judgement, judgeWake, unknown } from './wake-verdict.ts';

export interface WakeWatchDeps {
  vm: string;
  journal: Journal;
  log: Log;
  /** Asks the guest; `gateway` are the PIDs of its gateway processes, `client` whom the wake was for. */
  usage(asked: { gateway: number[]; client?: string }): Promise<GuestUsage>;
  /** What the VM has sent into the network so far. */
  sent(): Promise<Sent | null>;
  /** How long a VM is watched, in milliseconds; a minute unless told. */
  windowMs?: number;
  now?: () => number;
}

/** The first look, as the journal keeps it. */
interface Watched {
  first: GuestUsage | null;
  /** Uptime of the guest when its processes were let go. */
  releasedAtMs: number;
  dueAtMs: number;
}

const WINDOW_MS = 60_000;
/** A last look that comes later than this says little about the minute. */
const LATE_MS = 60_000;

export class WakeWatch {
  readonly #deps: WakeWatchDeps;
  readonly #windowMs: number;
  readonly #now: () => number;
  #watching: { operation: string; timer: NodeJS.Timeout | null } | null = null;

  constructor(deps: WakeWatchDeps) {
    this.#deps = deps;
    this.#windowMs = deps.windowMs ?? WINDOW_MS;
    this.#now = deps.now ?? Date.now;
  }

  /** The unpark `operation` has ended: the VM is awake. */
  begin(operation: string): void {
    if (this.#isUnjudged(operation)) this.#run(operation, () => this.#firstLook(operation));
  }

  /** After a start of the orchestrator, of a VM that is awake: goes on with the wake that was being watched. */
  resume(): void {
    const { journal, vm } = this.#deps;
    const operation = journal.lastSaga(vm, 'unpark');
    if (operation === null || !this.#isUnjudged(operation)) return;
    this.#watching = { operation, timer: null };
    const watched = this.#watched(operation);
    if (!watched) return this.#judge(operation, unknown('the orchestrator was restarted before it looked'));
    if (this.#now() > watched.dueAtMs + LATE_MS) {
      return this.#judge(operation, unknown('the orchestrator was away when the minute was over'));
    }
    this.#wait(operation, watched);
  }

  /** The VM is about to be parked. */
  leave(): void {
    const watching = this.#watching;
    if (watching) this.#judge(watching.operation, unknown('it was parked again before the minute was over'));
  }

  /** Looks no more; the journal knows where it was. */
  stop(): void {
    if (this.#watching?.timer) clearTimeout(this.#watching.timer);
    this.#watching = null;
  }

  async #firstLook(operation: string): Promise<void> {
    const { journal, vm } = this.#deps;
    const first = await this.#usage(operation);
    if (this.#watching?.operation !== operation) return;
    const now = this.#now();
    const watched: Watched = {
      first,
      releasedAtMs: first ? first.uptimeMs - (now - restoreStartedAt(journal.ofSaga(operation), now)) : 0,
      dueAtMs: now + this.#windowMs,
    };
    journal.append([{ vm, saga: operation, event: 'wakeWatched', body: watched }]);
    this.#wait(operation, watched);
  }

  #wait(operation: string, watched: Watched): void {
    const timer = setTimeout(
      () => this.#run(operation, () => this.#lastLook(operation, watched)),
      Math.max(0, watched.dueAtMs - this.#now()),
    );
    timer.unref();
    this.#watching = { operation, timer };
  }

  async #lastLook(operation: string, { first, releasedAtMs }: Watched): Promise<void> {
    const { journal } = this.#deps;
    const [last, sent] = await Promise.all([this.#usage(operation), this.#deps.sent().catch(() => null)]);
    if (this.#watching?.operation !== operation) return;
    const records = journal.ofSaga(operation);
    const state = unparkState(records);
    const flippedAt = succeededAt(records, 'flip') ?? this.#now();
    const parkedAt = succeededAt(journal.ofSaga(state.parkImageId), 'run') ?? flippedAt;
    const judgement = judgeWake({
      rule: state.wake.trigger?.rule ?? null,
      first,
      last,
      releasedAtMs,
      sentBytes: sent && state.vmSentBytes !== undefined ? Math.max(0, sent.bytes - state.vmSentBytes) : null,
      sinkSentBytes: state.sinkSentBytes ?? null,
      parkedMs: flippedAt - parkedAt,
      windowMs: this.#now() - flippedAt,
    });
    this.#judge(operation, judgement);
  }

  #judge(operation: string, judgement: Judgement): void {
    const { journal, vm, log } = this.#deps;
    if (this.#watching?.timer) clearTimeout(this.#watching.timer);
    this.#watching = null;
    const { cause, trigger } = unparkState(journal.ofSaga(operation)).wake;
    const body = { ...judgement, cause, rule: trigger?.rule ?? null };
    journal.append([{ vm, saga: operation, event: 'wakeJudged', body }]);
    log.info('wake.judged', { operation, ...body });
  }

  #run(operation: string, work: () => Promise<void>): void {
    this.#watching = { operation, timer: null };
    work().catch((thrown) =>
      this.#deps.log.error('wakeWatch.failed', { operation, error: asSeamlessError(thrown) }),
    );
  }

  async #usage(operation: string): Promise<GuestUsage | null> {
    const { gatewayPids = [], wake } = unparkState(this.#deps.journal.ofSaga(operation));
    const client = wake.trigger && 'client' in wake.trigger ? wake.trigger.client : undefined;
    try {
      return await this.#deps.usage({ gateway: gatewayPids, ...(client ? { client } : {}) });
    } catch (error) {
      this.#deps.log.warn('wakeWatch.unanswered', { operation, error });
      return null;
    }
  }

  #watched(operation: string): Watched | null {
    const record = this.#deps.journal.ofSaga(operation).find(({ event }) => event === 'wakeWatched');
    return record ? (record.body as unknown as Watched) : null;
  }

  #isUnjudged(operation: string): boolean {
    const records = this.#deps.journal.ofSaga(operation);
    const isJudged = records.some(({ event }) => event === 'wakeJudged');
    return !isJudged && !isPlanned(unparkState(records).wake.cause);
  }
}

/** What the saga was begun with and what its steps have given. */
export function unparkState(records: readonly JournalRecord[]): UnparkState {
  const input = records.find(({ event }) => event === 'sagaCreated')?.body.input as UnparkState;
  const outputs = records.filter(({ event }) => event === 'succeeded').map(({ body }) => body.output);
  return Object.assign({}, input, ...(outputs as object[]));
}

function succeededAt(records: readonly JournalRecord[], wanted: string): number | null {
  return records.findLast(({ step, event }) => step === wanted && event === 'succeeded')?.atMs ?? null;
}

/** When the processes began to come back: the first moment at which one can have been started by them. */
function restoreStartedAt(records: readonly JournalRecord[], otherwise: number): number {
  const started = records.find(({ step, event }) => step === 'restore' && event === 'started');
  return started?.atMs ?? otherwise;
}
