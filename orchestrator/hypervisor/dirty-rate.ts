/**
 * How fast the guest writes to its memory, all of it, as QEMU finds out by comparing some of its pages before and after a few seconds
 * (`calc-dirty-rate`, page sampling: no log of dirty pages, so it costs the guest nothing, with any accelerator).
 * QEMU rounds down to whole MiB/s.
 */
import type { SeamlessError } from '../../common/errors.ts';
import type { Qmp } from './qmp.ts';

/** `none`: this hypervisor can't tell, ever. null: not known now. */
export type DirtyRate = number | 'none' | null;

const MEASURE_S = 5;
/** A measurement says something of an interval only while it is not much older; three in a row may fail. */
const FRESH_MS = 30_000;
const MIB = 1024 * 1024;

interface Answer {
  status: 'unstarted' | 'measuring' | 'measured';
  'dirty-rate'?: number;
}

export class DirtyRateMeter {
  readonly #qmp: Pick<Qmp, 'execute'>;
  #isNone = false;
  #isBegun = false;
  #last: { bytesPerSecond: number; atMs: number } | null = null;

  constructor(qmp: Pick<Qmp, 'execute'>) {
    this.#qmp = qmp;
  }

  /** Begins a measurement, unless one is under way. It is over after five seconds. */
  async begin(): Promise<void> {
    if (this.#isNone || (await this.#ask()) === 'measuring') return;
    await this.#qmp.execute('calc-dirty-rate', { 'calc-time': MEASURE_S, mode: 'page-sampling' });
    this.#isBegun = true;
  }

  /** What the last measurement has found. */
  async read(): Promise<DirtyRate> {
    if (!this.#isNone) await this.#ask();
    if (this.#isNone) return 'none';
    return this.#last && performance.now() - this.#last.atMs <= FRESH_MS ? this.#last.bytesPerSecond : null;
  }

  async #ask(): Promise<Answer['status']> {
    try {
      const { status, 'dirty-rate': rate } = await this.#qmp.execute<Answer>('query-dirty-rate');
      // One that somebody else began, or we before we were started anew, says nothing of when.
      if (status === 'measured' && this.#isBegun && rate !== undefined && rate >= 0) {
        this.#last = { bytesPerSecond: rate * MIB, atMs: performance.now() };
        this.#isBegun = false;
      }
      return status;
    } catch (error) {
      const { received } = (error as SeamlessError).details ?? {};
      this.#isNone = typeof received === 'string' && received.includes('CommandNotFound');
      if (this.#isNone) return 'unstarted';
      throw error;
    }
  }
}
