/**
 * How fast the guest writes to its memory, all of it, as QEMU finds out by comparing some of its pages before and after a few seconds
 * (`calc-dirty-rate`, page sampling: no log of dirty pages, so it costs the guest nothing, with any accelerator).
 * Each reading tells of the last measurement and begins the next. QEMU rounds down to whole MiB/s.
 */
import type { SeamlessError } from '../../common/errors.ts';
import type { Qmp } from './qmp.ts';

/** `none`: this hypervisor can't tell, ever. null: not known now. */
export type DirtyRate = number | 'none' | null;

const MEASURE_S = 5;
/** A measurement says something of an interval only while it is not much older. */
const FRESH_MS = 30_000;
const MIB = 1024 * 1024;

interface Answer {
  status: 'unstarted' | 'measuring' | 'measured';
  'dirty-rate'?: number;
}

export class DirtyRateMeter {
  readonly #qmp: Pick<Qmp, 'execute'>;
  #isNone = false;
  #begun = false;
  #last: { bytesPerSecond: number; atMs: number } | null = null;

  constructor(qmp: Pick<Qmp, 'execute'>) {
    this.#qmp = qmp;
  }

  async read(signal?: AbortSignal): Promise<DirtyRate> {
    if (this.#isNone) return 'none';
    const call = signal ? { signal } : {};
    try {
      const { status, 'dirty-rate': rate } = await this.#qmp.execute<Answer>('query-dirty-rate', {}, call);
      const now = performance.now();
      // One that somebody else began, or we before we were started anew, says nothing of when.
      if (status === 'measured' && this.#begun && rate !== undefined && rate >= 0)
        this.#last = { bytesPerSecond: rate * MIB, atMs: now };
      if (status !== 'measuring') {
        await this.#qmp.execute('calc-dirty-rate', { 'calc-time': MEASURE_S, mode: 'page-sampling' }, call);
        this.#begun = true;
      }
      return this.#last && now - this.#last.atMs <= FRESH_MS ? this.#last.bytesPerSecond : null;
    } catch (error) {
      const { received } = (error as SeamlessError).details ?? {};
      this.#isNone = typeof received === 'string' && received.includes('CommandNotFound');
      if (this.#isNone) return 'none';
      throw error;
    }
  }
}
