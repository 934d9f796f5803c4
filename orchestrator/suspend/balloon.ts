/**
 * Inflates a VM's balloon over the memory that its guest does not need, and not further: past that, the guest would
 * run out of memory. It grows in steps, each no larger than what the guest said it could spare a moment before, and stops
 * where it is when the guest's MemAvailable, watched meanwhile, falls below an alarm: the balloon then gives back what lacks.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { asSeamlessError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { GuestMemory, VmAgentApi } from '../../vm-agent/api.ts';
import type { Qmp } from '../hypervisor/qmp.ts';
import type { Agent } from '../sagas/ports.ts';

export interface BalloonDeps {
  qmp: Qmp;
  vmAgent: Agent<VmAgentApi>;
  log: Log;
}

export const MiB = 1024 * 1024;
/** What stays free in the guest: the agent, CRIU and a login must fit in it. */
const MARGIN_BYTES = 80 * MiB;
/** More page cache than this is not kept. */
const MOST_CACHE_BYTES = 256 * MiB;
/** Below this the balloon gives back what lacks to the margin. */
const ALARM_BYTES = 48 * MiB;
/** More at once the guest could need itself before it is asked again. */
const STEP_BYTES = 256 * MiB;
/** What is not worth a further step. */
const CRUMB_BYTES = 8 * MiB;
const POLL_MS = 50;
/** Of `deflateGently`: what it begins with, how long it waits until it doubles that, and from where on it gives all. */
const FIRST_BACK_BYTES = 32 * MiB;
const BETWEEN_MS = 100;
const MOST_GENTLY_BYTES = 512 * MiB;
/** Ends when the balloon has not grown for so long: the guest has no more to give. */
const STALLED_MS = 1500;
const INFLATE_MS = 30_000;

/**
 * What the guest can give. Of its page cache it keeps what is in use, up to a bound: read anew from its disk, that costs the wake more than
 * swap does. The rest of the cache goes by the guest's own reclaim, as the balloon grows.
 */
export function spareBytes({ availableBytes, hotCacheBytes = 0 }: Omit<GuestMemory, 'totalBytes'>): number {
  return Math.max(0, availableBytes - Math.min(hotCacheBytes, MOST_CACHE_BYTES) - MARGIN_BYTES);
}

/** The size to ask for next, or null when the guest has no more to spare. */
export function nextSize(actualBytes: number, memory: Omit<GuestMemory, 'totalBytes'>): number | null {
  const spare = Math.floor(spareBytes(memory) / MiB) * MiB;
  return spare < CRUMB_BYTES ? null : actualBytes - Math.min(spare, STEP_BYTES);
}

/** The size to go back to when the guest has become short, or null when it has not. */
export function relievedSize(actualBytes: number, availableBytes: number): number | null {
  return availableBytes < ALARM_BYTES ? actualBytes + MARGIN_BYTES - availableBytes : null;
}

/** Gives the bytes that the balloon has taken. Returns early, without an error, when `wanted` aborts. */
export async function inflateBalloon(
  { qmp, vmAgent, log }: BalloonDeps,
  wanted: AbortSignal,
): Promise<number> {
  const actual = () => sizeOf(qmp);
  const memory = () => vmAgent.call('memory', {}, { signal: wanted, timeoutMs: 20_000 });
  const setSize = (value: number) => qmp.execute('balloon', { value });

  const before = await actual();
  const deadline = performance.now() + INFLATE_MS;
  let now = before;
  let target = nextSize(now, await memory());
  while (target !== null && !wanted.aborted && performance.now() < deadline) {
    await setSize(target);
    let changedAt = performance.now();
    let relieved: number | null = null;
    while (now > target && !wanted.aborted && performance.now() < changedAt + STALLED_MS) {
      await delay(POLL_MS, undefined, { signal: wanted }).catch(() => {});
      const size = await actual();
      if (size < now) changedAt = performance.now();
      now = size;
      if (now <= target || wanted.aborted) break;
      const { availableBytes } = await memory();
      relieved = relievedSize(now, availableBytes);
      if (relieved === null) continue;
      log.warn('balloon.relieved', { availableMiB: Math.round(availableBytes / MiB) });
      await setSize(Math.min(before, relieved));
      break;
    }
    const isStalled = now > target;
    // What it could not get it must not take later, when nobody watches.
    if (isStalled && relieved === null) await setSize(now);
    target = isStalled || wanted.aborted ? null : nextSize(now, await memory());
  }
  return before - (await actual());
}

/**
 * Gives the guest `bytes` back, or all. The device takes a size, not “none”: one above the VM’s memory is cut to it. A VM without a balloon
 * has none to deflate.
 */
export async function deflateBalloon(qmp: Qmp, bytes = Number.POSITIVE_INFINITY): Promise<void> {
  await unlessNone(() => giveBack(qmp, bytes));
}

/** Gives all of it back, a little at first and soon more: a guest takes back page by page, with a processor that its programs wait for. */
export async function deflateGently(qmp: Qmp): Promise<void> {
  await unlessNone(async () => {
    for (let given = FIRST_BACK_BYTES; given < MOST_GENTLY_BYTES; given *= 2) {
      await giveBack(qmp, given);
      await delay(BETWEEN_MS);
    }
    await giveBack(qmp, Number.POSITIVE_INFINITY);
  });
}

async function giveBack(qmp: Qmp, bytes: number): Promise<void> {
  const { 'base-memory': memoryBytes } = await qmp.execute<{ 'base-memory': number }>(
    'query-memory-size-summary',
  );
  const wanted = bytes < memoryBytes ? (await sizeOf(qmp)) + bytes : memoryBytes;
  await qmp.execute('balloon', { value: Math.min(memoryBytes, wanted) });
}

async function sizeOf(qmp: Qmp): Promise<number> {
  return (await qmp.execute<{ actual: number }>('query-balloon')).actual;
}

async function unlessNone(work: () => Promise<void>): Promise<void> {
  await work().catch((thrown) => {
    if (asSeamlessError(thrown).code !== 'COMMAND_FAILED') throw thrown;
  });
}
