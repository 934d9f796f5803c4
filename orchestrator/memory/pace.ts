/**
 * Keeps reclaim from stalling the host's awake VMs. A stroke of reclaim counts as a stall itself, so what the kernel's figures say
 * during one tells nothing; but whoever waits for memory or the disk while we rest is somebody else. When somebody does, strokes
 * become smaller and rests longer; when nobody does, the other way round. What they wait for anyway, before the first stroke, is
 * not our doing.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { HostTransport } from '../host/transport.ts';
import { type Pace, STROKE_BYTES } from '../hypervisor/reclaim.ts';
import { readStalls, stalledShare } from './stalls.ts';

export interface Speed {
  strokeBytes: number;
  restMs: number;
}

const FASTEST: Speed = { strokeBytes: STROKE_BYTES, restMs: 4 };
const SLOWEST: Speed = { strokeBytes: 4 * 1024 * 1024, restMs: 100 };
/** Less of a rest than this, beside what was before, is noise. */
const STALLED_SHARE = 0.1;
/** How long is looked at what was before. */
const BEFORE_MS = 50;
const GROWTH_BYTES = 4 * 1024 * 1024;

/** Down by half at once, up by steps. */
export function nextSpeed({ strokeBytes, restMs }: Speed, share: number, before = 0): Speed {
  if (share > before + STALLED_SHARE) {
    return {
      strokeBytes: Math.max(SLOWEST.strokeBytes, strokeBytes / 2),
      restMs: Math.min(SLOWEST.restMs, restMs * 2),
    };
  }
  return {
    strokeBytes: Math.min(FASTEST.strokeBytes, strokeBytes + GROWTH_BYTES),
    restMs: Math.max(FASTEST.restMs, restMs / 2),
  };
}

export function paceOf(host: HostTransport): Pace {
  const fresh: Speed = { ...FASTEST, strokeBytes: STROKE_BYTES / 2 };
  let speed = fresh;
  let before = 0;
  return {
    get strokeBytes() {
      return speed.strokeBytes;
    },
    async begin(wanted) {
      speed = fresh;
      before = (await shareDuring(host, BEFORE_MS, wanted)) ?? 0;
    },
    async rest(wanted) {
      // Doubt about the others is a reason to go slowly.
      speed = nextSpeed(speed, (await shareDuring(host, speed.restMs, wanted)) ?? 2, before);
    },
  };
}

/** The share of a rest in which somebody waited; null when that can't be told. */
async function shareDuring(host: HostTransport, ms: number, wanted: AbortSignal): Promise<number | null> {
  const started = performance.now();
  const before = await readStalls(host).catch(() => null);
  await delay(ms, undefined, { signal: wanted }).catch(() => {});
  const after = await readStalls(host).catch(() => null);
  return before && after ? stalledShare(before, after, performance.now() - started) : null;
}
