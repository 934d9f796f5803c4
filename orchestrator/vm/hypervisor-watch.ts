/**
 * Notices when a VM's QEMU goes: its control connection breaks and can't be made again. Keeps that connection open besides,
 * so that a wake pays for no handshake.
 *
 *   there ── connection lost ──▶ asking again ── refused twice ──▶ lost ── connected ──▶ there
 *                                    └── connected ──▶ there
 *
 * While its host can't be reached nothing is known of QEMU: that is the host's loss (host/reachability.ts), not QEMU's.
 *
 * A parked VM whose QEMU has gone loses its memory, not its gateway processes: its sink has them, the only copy, and goes on
 * answering. Nothing here touches the sink, and a wake that fails for want of a hypervisor leaves it as it was.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { asSeamlessError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { Qmp } from '../hypervisor/qmp.ts';
import type { Journal } from '../saga/journal.ts';
import type { VmState } from './state.ts';

export interface HypervisorLoss {
  since: string;
  reason: string;
  /** What the operator should do. */
  next: string;
}

export interface HypervisorWatchDeps {
  vm: string;
  qmp: Pick<Qmp, 'connect' | 'onLost'>;
  journal: Journal;
  log: Log;
  /** Waits until it is this VM’s turn to connect; resolves with what ends the turn. */
  turn?(signal: AbortSignal): Promise<() => void>;
  state(): VmState['kind'];
  /** Then nothing is known of its QEMU, which is no loss. */
  hostLost(): boolean;
  /** Its memory is in a file and its QEMU has been ended on purpose: that is no loss. */
  away?(): Promise<boolean>;
  /** QEMU is there again after it was lost. */
  onBack?(): void;
  /** Milliseconds until the first further attempt and the longest until another one. */
  backoffMs?: { first: number; most: number };
}

const BACKOFF_MS = { first: 250, most: 5000 };
const REFUSALS = 2;

export class HypervisorWatch {
  readonly #deps: HypervisorWatchDeps;
  readonly #ended = new AbortController();
  #loss: HypervisorLoss | null = null;
  #asking = false;

  constructor(deps: HypervisorWatchDeps) {
    this.#deps = deps;
  }

  /** Null while QEMU is there, as far as is known. */
  get loss(): HypervisorLoss | null {
    return this.#loss;
  }

  /** Opens the connection and watches it from then on. */
  start(): void {
    const { journal, vm, qmp } = this.#deps;
    const last = journal.last(vm, 'hypervisor');
    if (last?.body.state === 'lost') {
      const { reason, next } = last.body as { reason: string; next: string };
      this.#loss = { since: new Date(last.atMs).toISOString(), reason, next };
    }
    qmp.onLost(() => void this.#askAgain());
    void this.#askAgain();
  }

  stop(): void {
    this.#ended.abort();
  }

  async #askAgain(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    const { log, hostLost, backoffMs = BACKOFF_MS } = this.#deps;
    const { signal } = this.#ended;
    for (let failures = 0, refusals = 0; !signal.aborted; ) {
      try {
        await this.#connect(signal);
        this.#back();
        break;
      } catch (thrown) {
        const { message } = asSeamlessError(thrown);
        failures += 1;
        const isAway = await this.#isAway();
        refusals = isAway || hostLost() ? 0 : refusals + 1;
        if (isAway && !signal.aborted) this.#back();
        else if (refusals >= REFUSALS && !signal.aborted) this.#lost(message);
        else log.debug('qmp.unreachable', { message });
      }
      const waitMs = Math.min(backoffMs.most, backoffMs.first * 2 ** (failures - 1));
      await delay(waitMs, undefined, { signal, ref: false }).catch(() => {});
    }
    this.#asking = false;
  }

  async #connect(signal: AbortSignal): Promise<void> {
    const { qmp, turn } = this.#deps;
    const end = await turn?.(signal);
    try {
      await qmp.connect();
    } finally {
      end?.();
    }
  }

  async #isAway(): Promise<boolean> {
    return (await this.#deps.away?.().catch(() => false)) ?? false;
  }

  #lost(reason: string): void {
    if (this.#loss) return;
    const { journal, vm, log, state } = this.#deps;
    const kind = state();
    const next = nextStep(vm, kind);
    const [record] = journal.append([
      { vm, event: 'hypervisor', body: { state: 'lost', reason, next, vmState: kind } },
    ]);
    this.#loss = { since: new Date(record?.atMs ?? Date.now()).toISOString(), reason, next };
    log.error('hypervisor.lost', { reason, next });
  }

  #back(): void {
    if (!this.#loss) return;
    const { journal, vm, log, onBack } = this.#deps;
    this.#loss = null;
    journal.append([{ vm, event: 'hypervisor', body: { state: 'back' } }]);
    log.info('hypervisor.back');
    onBack?.();
  }
}

function nextStep(vm: string, state: VmState['kind']): string {
  if (state === 'awake' || state === 'parking') {
    return 'Look at its host and at the log of its QEMU, and start the VM again.';
  }
  return (
    'Its memory is lost. Its gateway processes live on in its sink, the only copy: it goes on answering and is never ' +
    `destroyed. Look at the host of ${vm} and at the log of its QEMU. Whoever wants the VM waits until QEMU is back.`
  );
}
