/**
 * The live half of idle detection: asks each VM that is awake every ten seconds whether it is used, then decides about all.
 *
 *   ask (spread over the interval, so many at once) ─▶ decideRound ─▶ driver: park, wake, abortPark
 *        │ a VM that parks is asked every second                          │
 *        └─────────────── history ◀── moved() ◀── its new states ◀────────┘
 *
 * It waits for nobody: a VM that does not answer is asked again when that call has ended, and what is not known counts as busy. Histories are
 * kept over a restart in the journal: at each move, since a parked VM can't tell its timers again, and now and then what was learned.
 * Without a policy nobody is asked and nothing is done.
 */
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises';
import { asSeamlessError, SeamlessError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { Journal } from '../saga/journal.ts';
import type { Move, VmDriver } from '../vm/driver.ts';
import type { PlannedCause, VmState } from '../vm/state.ts';
import { plannedWake } from '../vm/wake.ts';
import { Collector, type ReportSource, SAMPLE_EVERY_MS } from './collector.ts';
import { type Decision, decide } from './decide.ts';
import { type Explanation, explain, reasonOf, ruleOf } from './explain.ts';
import type { Phase, VmHistory, WakeCause } from './history.ts';
import type { VmIdentity } from './policy/document.ts';
import type { PolicyFile } from './policy/file.ts';
import { BUILT_IN, type Policy } from './policy/policy.ts';
import { decideRound } from './round.ts';
import { type AskHostMemory, SpareMemory } from './spare-memory.ts';

/** A VM that is attended to. */
export interface Attended extends VmIdentity {
  driver: Pick<VmDriver, 'state' | 'park' | 'wake' | 'abortPark'>;
  source: ReportSource;
}

export interface AttentionDeps {
  /** null: nothing is parked by itself. */
  policy: Pick<PolicyFile, 'current' | 'problem'> | null;
  journal: Pick<Journal, 'keep' | 'kept'>;
  log: Log;
  /** What a host and its VMs have; nobody is held back for want of spare memory without it. */
  hostMemory?: AskHostMemory;
  everyMs?: number;
}

/** Of the interval, for questions; the rest is left for the answers and the decisions. */
const ASKING_SHARE = 0.6;
/** With few VMs there is no need to spread them further. */
const MOST_APART_MS = 20;
/** Calls that may be under way at once; those to VMs that don't answer end after five seconds. */
const MOST_AT_ONCE = 500;
/** A VM that does not answer is asked again after so many rounds at the latest. */
const LONGEST_SILENCE_ROUNDS = 6;
/** Of a VM that parks: somebody may be there before the window says so. */
const PARKING_EVERY_MS = 1000;
/** What was learned since may be lost by a crash. */
const KEEP_EVERY_MS = 3_600_000;
const MOST_KEPT_AT_ONCE = 100;

export class Attention {
  readonly #deps: AttentionDeps;
  readonly #log: Log;
  readonly #everyMs: number;
  readonly #spare: SpareMemory | null;
  readonly #vms = new Map<string, Watched>();
  readonly #ended = new AbortController();
  readonly #moved = new Set<Watched>();
  #asking = 0;
  /** Who was not asked in one round is first in the next. */
  #next = 0;
  #running: Promise<void> = Promise.resolve();

  constructor(deps: AttentionDeps) {
    this.#deps = deps;
    this.#log = deps.log;
    this.#everyMs = deps.everyMs ?? SAMPLE_EVERY_MS;
    this.#spare = deps.hostMemory ? new SpareMemory(deps.hostMemory) : null;
  }

  /** From now on; its driver has started. Gives what is known of the VM, for whoever knows more. */
  add(vm: Attended): VmHistory {
    const now = Date.now();
    const phase = PHASE[vm.driver.state.kind];
    const collector = new Collector(now, phase, this.#deps.policy && this.#deps.journal.kept(vm.name));
    const watched = new Watched(vm, collector, this.#deps.policy, now - KEEP_EVERY_MS * Math.random());
    this.#vms.set(vm.name, watched);
    if (phase === 'parking') this.#watchPark(watched);
    return watched.history;
  }

  /** OpenStack has told, or changed, the metadata that selectors go by. */
  setMetadata(name: string, metadata: Record<string, string>): void {
    this.#vms.get(name)?.setMetadata(metadata);
  }

  /** What the policy says of a VM, now; null without one. */
  policyOf(name: string): Policy | null {
    return this.#deps.policy ? (this.#vms.get(name)?.policy ?? null) : null;
  }

  /** A driver's new state. */
  moved(name: string, { state, cause, error }: Move): void {
    const vm = this.#vms.get(name);
    if (!vm) return;
    const { history, collector } = vm;
    const wasParking = history.phase === 'parking';
    const now = Date.now();
    history.moved(PHASE[state], now, cause === null ? null : WAKE_CAUSE[cause]);
    // A crash and a use take a park back, too; only what was in its way stays there.
    if (wasParking && state === 'awake' && cause === null && error && error.code !== 'ABORTED') {
      history.refused(error, now, vm.policy);
      this.#log.info('idle.refused', { vmId: name, ...history.refusal });
    }
    // It was away: what it reports next says nothing of the time between.
    if (state === 'parked' || (state === 'awake' && !wasParking)) collector.forget();
    vm.answered(true, this.#everyMs);
    if (state !== 'unparking') this.#keepSoon(vm);
    if (state === 'parking') this.#watchPark(vm);
  }

  explain(name: string): Explanation {
    const vm = this.#found(name);
    const { policy: file } = this.#deps;
    const now = Date.now();
    const { history, policy } = vm;
    const problem = file?.problem?.toBody() ?? null;
    return explain({
      ...{ vm: name, state: vm.vm.driver.state.kind, history, policy, now },
      decision: decide(history, policy, now),
      file: file && { name: file.current.file, problem },
    });
  }

  start(): void {
    if (this.#deps.policy) this.#running = this.#attend();
  }

  /** The policy file has changed: what was in a park's way may have gone. */
  policyChanged(): void {
    for (const { history } of this.#vms.values()) history.refusal = null;
  }

  /** Keeps what was learned. */
  async stop(): Promise<void> {
    this.#ended.abort();
    await this.#running;
    const all = [...this.#vms.values()];
    for (let at = 0; at < all.length; at += MOST_KEPT_AT_ONCE) {
      this.#keep(all.slice(at, at + MOST_KEPT_AT_ONCE));
      await turn();
    }
  }

  async #attend(): Promise<void> {
    const { signal } = this.#ended;
    while (!signal.aborted) {
      const startedAt = performance.now();
      try {
        this.#spare?.refresh(this.#vms.values());
        await this.#askAll(startedAt);
        const decidedAt = performance.now();
        const cpu = process.cpuUsage();
        const act = (vm: Watched, decision: Decision) => this.#act(vm, decision);
        const vms = await decideRound(this.#vms.values(), Date.now, act, signal);
        const { user, system } = process.cpuUsage(cpu);
        const cpuMs = (user + system) / 1000;
        this.#log.debug('idle.round', { vms, ms: performance.now() - decidedAt, cpuMs });
        this.#keepSome();
      } catch (thrown) {
        this.#log.error('idle.round', { error: asSeamlessError(thrown) });
      }
      await this.#pause(startedAt + this.#everyMs - performance.now());
    }
  }

  /** One after the other at even distances, then a moment for the last answers. */
  async #askAll(startedAt: number): Promise<void> {
    const awake = [...this.#vms.values()].filter(
      (vm) => vm.history.phase === 'awake' && vm.askAgainAt <= startedAt,
    );
    const apartMs = Math.min(MOST_APART_MS, (this.#everyMs * ASKING_SHARE) / Math.max(awake.length, 1));
    const answers: Promise<void>[] = [];
    const askedUntil = startedAt + this.#everyMs * (ASKING_SHARE + 0.2);
    for (let count = 0; count < awake.length && !this.#ended.signal.aborted; ) {
      const due = Math.min(awake.length, Math.floor((performance.now() - startedAt) / apartMs) + 1);
      for (; count < due && this.#asking < MOST_AT_ONCE; count++) {
        const vm = awake[this.#next++ % awake.length] as Watched;
        if (!vm.isAsked && vm.history.phase === 'awake') answers.push(this.#ask(vm));
      }
      if (performance.now() > askedUntil) break;
      if (count < awake.length)
        await this.#pause(Math.max(2, startedAt + count * apartMs - performance.now()));
    }
    const enough = new AbortController();
    await Promise.race([
      Promise.all(answers),
      delay(Math.max(0, askedUntil - performance.now()), null, { signal: enough.signal }).catch(() => {}),
    ]);
    enough.abort();
  }

  async #ask(vm: Watched): Promise<void> {
    vm.isAsked = true;
    this.#asking++;
    try {
      vm.answered(await vm.collector.collect(vm.vm.source, vm.policy), this.#everyMs);
    } finally {
      this.#asking--;
      vm.isAsked = false;
    }
  }

  #act({ name, vm, policy, history }: Watched, decision: Decision): void {
    const rule = ruleOf(decision, policy);
    try {
      if (decision.verdict === 'park') {
        vm.driver.park({ cause: 'idle', rule });
      } else if (decision.verdict === 'wake') {
        const cause = PLANNED[decision.rule] ?? 'policy';
        vm.driver.wake(plannedWake(cause, `${reasonOf(decision, history)} (${rule})`));
      } else if (!vm.driver.abortPark()) return;
      this.#log.info(`idle.${decision.verdict}`, { vmId: name, rule });
    } catch (thrown) {
      const error = asSeamlessError(thrown);
      this.#log.warn('idle.denied', { vmId: name, verdict: decision.verdict, error });
      if (decision.verdict === 'park') history.refused(error, Date.now(), policy);
    }
  }

  /** Until the park has passed its pivot somebody who comes takes it back. */
  #watchPark(vm: Watched): void {
    if (!this.#deps.policy) return;
    const watch = async () => {
      await this.#pause(0); // The driver has yet to begin.
      while (vm.history.phase === 'parking' && !this.#ended.signal.aborted) {
        if (!vm.isAsked) await this.#ask(vm);
        const { state } = vm.vm.driver;
        if (state.kind !== 'parking' || state.phase === 'after-pivot') return;
        const decision = decide(vm.history, vm.policy, Date.now(), 'verdict');
        if (decision.verdict === 'abort') return this.#act(vm, decision);
        await this.#pause(Math.min(PARKING_EVERY_MS, this.#everyMs));
      }
    };
    watch().catch((error) => this.#log.error('idle.watch', { vmId: vm.name, error }));
  }

  /** A wake does not wait for the disk. */
  #keepSoon(vm: Watched): void {
    if (this.#moved.size === 0) setImmediate(() => this.#keepMoved());
    this.#moved.add(vm);
  }

  #keepMoved(): void {
    const moved = [...this.#moved];
    this.#moved.clear();
    if (!this.#ended.signal.aborted) this.#keep(moved);
  }

  #keepSome(): void {
    const before = Date.now() - KEEP_EVERY_MS;
    const due: Watched[] = [];
    for (const vm of this.#vms.values()) {
      if (vm.keptAt < before && due.push(vm) === MOST_KEPT_AT_ONCE) break;
    }
    this.#keep(due);
  }

  #keep(vms: readonly Watched[]): void {
    if (!this.#deps.policy || vms.length === 0) return;
    try {
      this.#deps.journal.keep(new Map(vms.map(({ name, history }) => [name, history.toRecord()])));
    } catch (thrown) {
      this.#log.error('idle.keeping', { error: asSeamlessError(thrown) });
    }
    for (const vm of vms) vm.keptAt = Date.now();
  }

  #found(name: string): Watched {
    const vm = this.#vms.get(name);
    if (vm) return vm;
    throw new SeamlessError('VM_UNKNOWN', `Expected a registered VM, got “${name}”`);
  }

  async #pause(ms: number): Promise<void> {
    await delay(Math.max(0, ms), null, { signal: this.#ended.signal }).catch(() => {});
  }
}

/** One VM with its history, and the policy that holds for it now. */
class Watched {
  readonly name: string;
  readonly vm: Attended;
  readonly collector: Collector;
  isAsked = false;
  /** By the monotonic clock. */
  askAgainAt = 0;
  #silences = 0;
  keptAt: number;
  readonly #file: AttentionDeps['policy'];
  #identity: VmIdentity;
  #policy: Policy = BUILT_IN;
  /** Whose policy that is. */
  #document: object | null = null;

  constructor(vm: Attended, collector: Collector, file: AttentionDeps['policy'], keptAt: number) {
    this.name = vm.name;
    this.vm = vm;
    this.collector = collector;
    this.keptAt = keptAt;
    this.#file = file;
    this.#identity = vm;
  }

  get host(): string {
    return this.vm.host;
  }

  get history(): VmHistory {
    return this.collector.history;
  }

  get policy(): Policy {
    const document = this.#file?.current ?? null;
    if (document && document !== this.#document) {
      this.#policy = document.policyFor(this.#identity);
      this.#document = document;
    }
    return this.#policy;
  }

  /** Who does not answer is asked less and less, so that many of them don't take the others' turns. It is not known, hence busy, meanwhile. */
  answered(did: boolean, everyMs: number): void {
    this.#silences = did ? 0 : this.#silences + 1;
    const rounds = did ? 0 : Math.min(2 ** (this.#silences - 1), LONGEST_SILENCE_ROUNDS) - 1;
    this.askAgainAt = rounds > 0 ? performance.now() + (rounds - 0.5) * everyMs : 0;
  }

  setMetadata(metadata: Record<string, string>): void {
    this.#identity = { ...this.#identity, metadata };
    this.#document = null;
  }
}

const PHASE: Record<VmState['kind'], Phase> = {
  awake: 'awake',
  parking: 'parking',
  parked: 'parked',
  unparking: 'moving',
  stuck: 'stuck',
  gone: 'stuck',
};

const WAKE_CAUSE: Record<NonNullable<Move['cause']>, WakeCause> = {
  use: 'use',
  syscall: 'use',
  syn: 'use',
  packets: 'use',
  sink: 'use',
  timer: 'timer',
  lease: 'lease',
  forecast: 'forecast',
  policy: 'manual',
  webhook: 'manual',
  outside: 'manual',
  manual: 'manual',
};

const PLANNED: Partial<Record<Decision['rule'], PlannedCause>> = {
  timer: 'timer',
  lease: 'lease',
  forecast: 'forecast',
};
