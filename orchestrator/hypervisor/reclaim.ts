/**
 * Reclaim in strokes: a little at a time, so that it can be ended at any moment and the host's other VMs get their turn. The
 * kernel answers EBUSY or EAGAIN when a round freed too little, because the pages were used a moment ago: the stroke is
 * repeated until nothing has come off for two seconds.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { SeamlessError } from '../../common/errors.ts';
import type { HostTransport } from '../host/transport.ts';

/** How fast reclaim may go; see pace.ts. */
export interface Pace {
  /** Size of the next stroke. */
  readonly strokeBytes: number;
  /** Learns how the others fare before the first stroke. */
  begin(wanted: AbortSignal): Promise<void>;
  /** Rests after a stroke, and learns how the others fare meanwhile. */
  rest(wanted: AbortSignal): Promise<void>;
}

export interface Reclaim {
  usage(): Promise<number>;
  shrinkTo(bytes: number): Promise<void>;
  floorBytes: number;
  wanted: AbortSignal;
  pace?: Pace;
}

export const STROKE_BYTES = 48 * 1024 * 1024;
const BUSY_MS = 100;
const PROGRESS_BYTES = 1024 * 1024;
const STALLED_MS = 2000;
const SQUEEZE_MS = 60_000;

export async function inStrokes({ usage, shrinkTo, floorBytes, wanted, pace }: Reclaim): Promise<void> {
  const deadline = performance.now() + SQUEEZE_MS;
  await pace?.begin(wanted);
  let now = await usage();
  let progressAt = performance.now();
  while (now > floorBytes && !wanted.aborted && performance.now() < deadline) {
    await shrinkTo(Math.max(floorBytes, now - (pace?.strokeBytes ?? STROKE_BYTES))).catch(async (thrown) => {
      if (!isBusy(thrown)) throw thrown;
      await delay(BUSY_MS, undefined, { signal: wanted }).catch(() => {});
    });
    const before = now;
    now = await usage();
    if (now < before - PROGRESS_BYTES) progressAt = performance.now();
    // What can’t be reclaimed for so long (no swap left, pages in use) stays: the caller measures what it got.
    if (performance.now() - progressAt > STALLED_MS) return;
    await pace?.rest(wanted);
  }
}

export async function readNumber(host: HostTransport, file: string): Promise<number> {
  const text = await host.readFile(file);
  const value = Number(text.trim());
  if (Number.isFinite(value)) return value;
  throw new SeamlessError('HOST_UNREACHABLE', `Expected a number in ${file}, got ${text.slice(0, 80)}`);
}

/** v1 answers EBUSY, v2 EAGAIN, either EINTR. */
function isBusy(thrown: unknown): boolean {
  const cause = (thrown as { cause?: unknown })?.cause ?? thrown;
  return ['EBUSY', 'EAGAIN', 'EINTR'].includes((cause as NodeJS.ErrnoException)?.code ?? '');
}
