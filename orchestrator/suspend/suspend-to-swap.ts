/**
 * Suspend-to-swap: the host gets most of the VM's memory back, and the VM wakes lazily, page by page.
 *
 *   balloon over what the guest can spare → squeeze the cgroup to 10 MB → lift → rehearsal and dummy restore (bring back
 *   just the pages that a wake needs) → balloon over what that freed → pause → trim to 128 MiB
 *
 * The trim is ours, not the paper's: a slow dummy restore brings back more than the wake will use. First goes what the last wake did not
 * use, then what was used longest ago. What went out all the same is read at the wake in one go (working-set.ts).
 *
 * `wanted` makes each step return early; then the VM runs, and the balloon goes down again. What fails frees less
 * memory, and loses nothing.
 */
import type { Log } from '../../common/log.ts';
import type { VmAgentApi } from '../../vm-agent/api.ts';
import type { Config } from '../config.ts';
import type { MemoryCgroup } from '../hypervisor/memory-cgroup.ts';
import type { Qmp } from '../hypervisor/qmp.ts';
import type { Agent } from '../sagas/ports.ts';
import { deflateBalloon, deflateGently, inflateBalloon, spareBytes } from './balloon.ts';
import type { SwitchOff, SwitchOffResult } from './switch-off.ts';
import type { WorkingSet } from './working-set.ts';

export interface SuspendToSwapDeps {
  qmp: Qmp;
  cgroup: MemoryCgroup;
  vmAgent: Agent<VmAgentApi>;
  /** Has the sink agent send an image to the guest for nothing. */
  rehearse(signal: AbortSignal): Promise<unknown>;
  workingSet: WorkingSet;
  /** Throws `HOST_MEMORY_SHORT` when so much more in swap would harm the host. */
  assertRoomInSwap(bytes: number): Promise<void>;
  /** `false` leaves a part out: when it is measured what that part is worth. */
  parts?: Config['suspendToSwap'] | undefined;
  log: Log;
}

const FLOOR_BYTES = 10 * 1024 * 1024;
/** Less is not worth the cgroup's long search. */
const EVICTED_BYTES = 24 * 1024 * 1024;
/** What a VM may keep asleep, QEMU's own and its libraries included. */
const ASLEEP_BYTES = 128 * 1024 * 1024;
/** What the cgroup gives back first may be nobody's (pages that are in swap already): then once more. */
const TRIMS = 10;

/** Of the image of a VM's processes: where it lies, the pages it is restored to, and what changes on the way. */
const IMAGE_COPIES = 3;

export function suspendToSwap(deps: SuspendToSwapDeps): SwitchOff {
  /** What the guest needs for its processes beside what the balloon has left it; all that there is after a start of this service. */
  let neededBytes = Number.POSITIVE_INFINITY;
  return {
    async admit(signal) {
      const { vmAgent, cgroup, assertRoomInSwap } = deps;
      const [resident, memory] = await Promise.all([
        cgroup.resident(),
        vmAgent.call('memory', {}, { signal, timeoutMs: 10_000 }),
      ]);
      await assertRoomInSwap(Math.max(0, resident - spareBytes(memory)));
    },
    switchOff(imageId, wanted, imageBytes = Number.POSITIVE_INFINITY) {
      neededBytes = imageBytes * IMAGE_COPIES;
      return switchOff(deps, imageId, wanted);
    },
    switchOn: () => switchOn(deps, neededBytes),
    async woken() {
      await deps.workingSet.record();
      await deflateGently(deps.qmp).catch((error) => deps.log.error('balloon.left', { error }));
    },
  };
}

async function switchOff(
  deps: SuspendToSwapDeps,
  imageId: string,
  wanted: AbortSignal,
): Promise<SwitchOffResult> {
  const { qmp, cgroup, log } = deps;
  const residentBeforeBytes = await cgroup.resident();
  if (!(await isRunning(qmp)))
    return { off: true, method: 'swap', residentBeforeBytes, residentAfterBytes: residentBeforeBytes };
  const stage = async (name: string, run: () => Promise<unknown>) => {
    if (wanted.aborted) return;
    const started = performance.now();
    // What fails here frees less memory, and is worth no failure of the park.
    await run().catch((error) => wanted.aborted || log.warn('switchOff.stageFailed', { stage: name, error }));
    const residentMiB = Math.round((await cgroup.resident()) / 1024 / 1024);
    log.info('switchOff.stage', { stage: name, ms: Math.round(performance.now() - started), residentMiB });
  };
  await stage('balloon', () => inflateBalloon(deps, wanted));
  await stage('squeeze', () => paused(qmp, () => squeezeOut(deps, wanted)));
  await cgroup.lift();
  // A wake begins with receiving an image, which the dummy restore does not do.
  if (deps.parts?.dummyRestore !== false) {
    await stage('rehearsal', () => deps.rehearse(wanted));
    await stage('dummyRestore', () =>
      deps.vmAgent.call('dummyRestore', { imageId }, { signal: wanted, timeoutMs: 60_000 }),
    );
  }
  await stage('balloonAgain', () => inflateBalloon(deps, wanted));
  if (!wanted.aborted) await qmp.execute('stop');
  if (!wanted.aborted) await deps.workingSet.record({ unlessKnown: true });
  await stage('trim', () => trim(deps, wanted));
  // Wanted in the very moment of the pause: the unpark that follows begins with `switchOn`, gladly repeated.
  if (wanted.aborted) await switchOn(deps);
  return {
    off: !wanted.aborted,
    method: 'swap',
    residentBeforeBytes,
    residentAfterBytes: await cgroup.resident(),
  };
}

/**
 * `cont` first: everything else can wait for the guest, the guest for nothing. The balloon gives back what the restore needs, and all when
 * that is done (`woken`): taking it back costs the guest the processor that its processes wait for.
 */
async function switchOn(
  { qmp, cgroup, workingSet, parts }: SuspendToSwapDeps,
  neededBytes?: number,
): Promise<void> {
  if (parts?.prefetch !== false) void workingSet.prefetch(); // beside the wake, which need not wait for it
  await Promise.all([qmp.execute('cont'), deflateBalloon(qmp, neededBytes), cgroup.lift()]);
}

/**
 * By MADV_PAGEOUT first, which takes the very pages where the cgroup's limit has to look for ones that were not used (half of the
 * time for a gigabyte, bench/parking-neighbour.ts); the cgroup then takes what else is charged to the VM.
 */
async function squeezeOut({ workingSet, cgroup }: SuspendToSwapDeps, wanted: AbortSignal): Promise<void> {
  await workingSet.evict(wanted);
  if ((await cgroup.usage()) > EVICTED_BYTES) await cgroup.squeeze(FLOOR_BYTES, wanted);
}

async function trim({ cgroup, workingSet }: SuspendToSwapDeps, wanted: AbortSignal): Promise<void> {
  for (let trims = 0; trims < TRIMS && !wanted.aborted; trims++) {
    const surplus = (await cgroup.resident()) - ASLEEP_BYTES;
    if (surplus <= 0) return;
    if (trims === 0) await workingSet.evictOthers(surplus, wanted);
    else await cgroup.squeeze(Math.max(FLOOR_BYTES, (await cgroup.usage()) - surplus), wanted);
  }
}

/** The gateway processes are elsewhere, so nobody misses the guest; and it pulls no page back while they go out. */
async function paused(qmp: Qmp, work: () => Promise<void>): Promise<void> {
  await qmp.execute('stop');
  await work().finally(() => qmp.execute('cont'));
}

async function isRunning(qmp: Qmp): Promise<boolean> {
  const { running } = await qmp.execute<{ running: boolean }>('query-status');
  return running;
}
