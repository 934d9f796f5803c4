/**
 * Inflates a VM's balloon over the memory that its guest does not need, and not further: past that, the guest would
 * run out of memory. The guest's own MemAvailable decides, less a margin, and is watched while the balloon grows.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../common/log.ts';
import type { VmAgentApi } from '../../vm-agent/api.ts';
import type { Qmp } from '../hypervisor/qmp.ts';
import type { Agent } from '../sagas/ports.ts';

export interface BalloonDeps {
  qmp: Qmp;
  vmAgent: Agent<VmAgentApi>;
  log: Log;
}

const MiB = 1024 * 1024;
/** What stays free in the guest: the agent, CRIU and a login must fit in it. */
const MARGIN_BYTES = 80 * MiB;
/** Below this the balloon stops where it is. */
const ALARM_BYTES = 48 * MiB;
const POLL_MS = 100;
/** Ends when the balloon has not grown for so long: the guest has no more to give. */
const STALLED_MS = 1500;
const INFLATE_MS = 30_000;

/** Gives the bytes that the balloon has taken. Returns early, without an error, when `wanted` aborts. */
export async function inflateBalloon(
  { qmp, vmAgent, log }: BalloonDeps,
  { dropCaches }: { dropCaches: boolean },
  wanted: AbortSignal,
): Promise<number> {
  const actual = async () => (await qmp.execute<{ actual: number }>('query-balloon')).actual;
  const memory = (drop: boolean) =>
    vmAgent.call('memory', drop ? { dropCaches: true } : {}, { signal: wanted, timeoutMs: 20_000 });

  const before = await actual();
  const { availableBytes } = await memory(dropCaches);
  const spare = Math.floor((availableBytes - MARGIN_BYTES) / MiB) * MiB;
  if (spare <= 0) return 0;
  const target = before - spare;
  await qmp.execute('balloon', { value: target });

  const deadline = performance.now() + INFLATE_MS;
  let last = before;
  let lastChange = performance.now();
  while (!wanted.aborted && performance.now() < Math.min(deadline, lastChange + STALLED_MS)) {
    await delay(POLL_MS, undefined, { signal: wanted }).catch(() => {});
    const now = await actual();
    if (now < last) [last, lastChange] = [now, performance.now()];
    if (now <= target) break;
    if (wanted.aborted) break;
    const guest = await memory(false);
    if (guest.availableBytes < ALARM_BYTES) {
      log.warn('balloon.stopped', { availableMiB: Math.round(guest.availableBytes / MiB) });
      await qmp.execute('balloon', { value: await actual() });
      break;
    }
  }
  return before - last;
}
