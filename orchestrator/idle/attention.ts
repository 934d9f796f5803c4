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
import { asSeamlessError, SeamlessError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { Journal } from '../saga/journal.ts';
import type { Move } from '../vm/driver-deps.ts';
import type { PlannedCause, VmState } from '../vm/state.ts';
import { plannedWake } from '../vm/wake.ts';
import { Asking, pause } from './asking.ts';
import { Collector, SAMPLE_EVERY_MS } from './collector.ts';
import { type Decision, decide } from './decide.ts';
import { type Explanation, explain, reasonOf, ruleOf } from './explain.ts';
import type { Phase, VmHistory, WakeCause } from './history.ts';
import { KEEP_EVERY_MS, Keeping } from './keeping.ts';
import type { PolicyFile } from './policy/file.ts';
import type { Policy } from './policy/policy.ts';
import { decideRound } from './round.ts';
import { type AskHostMemory, SpareMemory } from './spare-memory.ts';
import { type Attended, Watched } from './watched.ts';

export interface AttentionDeps {
  /** null: nothing is parked by itself. */
  policy: Pick<PolicyFile, 'current' | 'problem'> | null;
  journal: Pick<Journal, 'keep' | 'kept'>;
  log: Log;
  /** What a host and its VMs have; nobody is held back for want of spare memory without it. */
  hostMemory?: AskHostMemory;
  everyMs?: number;
}

/** Of a VM that parks: somebody may be there before the window says so. */
const PARKING_EVERY_MS = 1000;
/** After a start all that idle are found so in one round; hosts and sink servers take them bit by bit. */
const MOST_PARKING_PER_HOST = 4;

export class Attention {
  readonly #deps: AttentionDeps;
  readonly #log: Log;
  readonly #everyMs: number;
  readonly #vms = new Map<string, Watched>();
  readonly #ended = new AbortController();
  readonly #asking: Asking;
  /** null without a policy: then nothing is learned. */
  readonly #keeping: Keeping | null;
  readonly #spare: SpareMemory | null;
  /** By host. */
  readonly #parking = new Map<string, number>();
  #running: Promise<void> = Promise.resolve();

  constructor(deps: AttentionDeps) {
    const { policy, journal, log, hostMemory, everyMs = SAMPLE_EVERY_MS } = deps;
    this.#deps = deps;
    this.#log = log;
    this.#everyMs = everyMs;
    this.#asking = new Asking(everyMs, this.#ended.signal);
    this.#keeping = policy && new Keeping(journal, log);
    this.#spare = hostMemory ? new SpareMemory(hostMemory) : null;
  }

  /** From now on; its driver has started. Gives what is known of the VM, for whoever knows more. */
  add(vm: Attended): VmHistory {
    const { policy, journal } = this.#deps;
    const now = Date.now();
    const phase = PHASE[vm.driver.state.kind];
    const collector = new Collector(now, phase, policy && journal.kept(vm.name), policy !== null);
    const watched = new Watched(vm, collector, policy, now - KEEP_EVERY_MS * Math.random());
    this.#vms.set(vm.name, watched);
    if (phase === 'parking') this.#parkBegins(watched);
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
    vm.askSoon();
    if (state !== 'unparking') this.#keeping?.soon(vm);
    if (wasParking) this.#countParking(vm, -1);
    if (state === 'parking') this.#parkBegins(vm);
  }

  explain(name: string): Explanation {
    const vm = this.#found(name);
    const { policy: file } = this.#deps;
    const now = Date.now();
    const { history, policy } = vm;
    const problem = file?.problem?.toBody() ?? null;
    return explain({
      ...{ vm: name, state: vm.driver.state.kind, history, policy, now },
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
    await this.#keeping?.end(this.#vms.values());
  }

  async #attend(): Promise<void> {
    const { signal } = this.#ended;
    while (!signal.aborted) {
      const startedAt = performance.now();
      try {
        this.#spare?.refresh(this.#vms.values());
        await this.#asking.round(this.#vms.values());
        await this.#decideAll();
        this.#keeping?.some(this.#vms.values());
      } catch (thrown) {
        this.#log.error('idle.round', { error: asSeamlessError(thrown) });
      }
      await pause(startedAt + this.#everyMs - performance.now(), signal);
    }
  }

  async #decideAll(): Promise<void> {
    const startedAt = performance.now();
    const before = process.cpuUsage();
    const act = (vm: Watched, decision: Decision) => this.#act(vm, decision);
    const vms = await decideRound(this.#vms.values(), Date.now, act, this.#ended.signal);
    const { user, system } = process.cpuUsage(before);
    this.#log.debug('idle.round', {
      vms,
      ms: performance.now() - startedAt,
      cpuMs: (user + system) / 1000,
    });
  }

  #act({ name, host, driver, policy, history }: Watched, decision: Decision): void {
    const rule = ruleOf(decision, policy);
    try {
      if (decision.verdict === 'park') {
        if ((this.#parking.get(host) ?? 0) >= MOST_PARKING_PER_HOST) return; // in a later round
        driver.park({ cause: 'idle', rule });
      } else if (decision.verdict === 'wake') {
        const cause = PLANNED[decision.rule] ?? 'policy';
        driver.wake(plannedWake(cause, `${reasonOf(decision, history)} (${rule})`));
      } else if (!driver.abortPark()) return;
      this.#log.info(`idle.${decision.verdict}`, { vmId: name, rule });
    } catch (thrown) {
      const error = asSeamlessError(thrown);
      this.#log.warn('idle.denied', { vmId: name, verdict: decision.verdict, error });
      if (decision.verdict === 'park') history.refused(error, Date.now(), policy);
    }
  }

  /** Until the park has passed its pivot somebody who comes takes it back. */
  #parkBegins(vm: Watched): void {
    this.#countParking(vm, 1);
    if (!this.#deps.policy) return;
    const { signal } = this.#ended;
    const watch = async () => {
      await pause(0, signal); // The driver has yet to begin.
      while (vm.history.phase === 'parking' && !signal.aborted) {
        if (!vm.isAsked) await this.#asking.ask(vm);
        const { state } = vm.driver;
        if (state.kind !== 'parking' || state.phase === 'after-pivot') return;
        const decision = decide(vm.history, vm.policy, Date.now(), 'verdict');
        if (decision.verdict === 'abort') return this.#act(vm, decision);
        await pause(Math.min(PARKING_EVERY_MS, this.#everyMs), signal);
      }
    };
    watch().catch((error) => this.#log.error('idle.watch', { vmId: vm.name, error }));
  }

  #countParking({ host }: Watched, by: 1 | -1): void {
    this.#parking.set(host, (this.#parking.get(host) ?? 0) + by);
  }

  #found(name: string): Watched {
    const vm = this.#vms.get(name);
    if (vm) return vm;
    throw new SeamlessError('VM_UNKNOWN', `Expected a registered VM, got “${name}”`);
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
