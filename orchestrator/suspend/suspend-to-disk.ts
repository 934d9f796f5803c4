/**
 * Suspend-to-disk: the VM's memory goes to a file, its QEMU ends, and the host has all of the memory back, also over a reboot.
 *
 *   running ─balloon, stop─▶ paused ─migrate─▶ saved, claimed ─quit─▶ ended
 *      ▲                                                               │
 *      └──cont◀─ claim forgotten ◀─ loaded, checked ◀─ new QEMU, -incoming defer
 *
 * Where the memory is, is read from the world at each call and never remembered: the claim (saved-state.ts) and whether a QEMU
 * answers. Until QEMU has ended its `cont` brings the VM back, so whatever fails before leaves it awake. The new QEMU gets the
 * disks' locks only with `cont`, holds a lock of ours, and is started only when the VM's cgroup is empty: never two on one disk.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { SeamlessError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { VmAgentApi } from '../../vm-agent/api.ts';
import type { MemoryCgroup } from '../hypervisor/memory-cgroup.ts';
import type { QemuProcess } from '../hypervisor/qemu-process.ts';
import type { Qmp } from '../hypervisor/qmp.ts';
import type { Agent } from '../sagas/ports.ts';
import { deflateBalloon, inflateBalloon } from './balloon.ts';
import { assertUnwritten, type Claim, isFull, type SavedState } from './saved-state.ts';
import type { SwitchOff, SwitchOffResult } from './switch-off.ts';

export interface SuspendToDiskDeps {
  vm: string;
  qmp: Qmp;
  cgroup: MemoryCgroup;
  vmAgent: Agent<VmAgentApi>;
  saved: SavedState;
  qemu: QemuProcess;
  log: Log;
}

export interface SuspendToDisk extends SwitchOff {
  /** The VM's memory is in its file, and its QEMU is gone or on its way: that is no loss. */
  away(): Promise<boolean>;
}

/** Beside what is resident: the devices' state. */
const ROOM_MARGIN_BYTES = 64 * 1024 * 1024;
const SAVE_MS = 90_000;
const CANCEL_MS = 10_000;
const LOAD_MS = 280_000;
const POLL_MS = 20;
/** QEMU's own limit is made for networks. */
const BYTES_PER_SECOND = 100e9;

export function suspendToDisk(deps: SuspendToDiskDeps): SuspendToDisk {
  const { saved } = deps;
  return {
    away: async () => (await saved.claim()) !== null,
    switchOff: (_imageId, wanted) => switchOff(deps, wanted),
    switchOn: () => switchOn(deps),
    async woken() {
      await saved.tidy().catch((error) => deps.log.warn('savedState.left', { error }));
    },
  };
}

async function switchOff(deps: SuspendToDiskDeps, wanted: AbortSignal): Promise<SwitchOffResult> {
  const { qmp, cgroup, saved, qemu, log } = deps;
  const claim = await saved.claim();
  const there = await qemu.isThere();
  if (!there && claim) return { off: true, method: 'disk', residentBeforeBytes: 0, residentAfterBytes: 0 };
  const residentBeforeBytes = await cgroup.resident();
  const result = (off: boolean, residentAfterBytes: number): SwitchOffResult => ({
    ...{ off, method: 'disk', residentBeforeBytes, residentAfterBytes },
  });
  const status = await statusOf(qmp);
  // Saved before, or loaded and not run yet: a call before this one was interrupted.
  if (claim && status !== 'running' && (await isUnwritten(deps, claim))) {
    await qemu.end();
    return result(true, 0);
  }
  if (claim) await saved.forget();
  try {
    if (status === 'running') {
      await inflateBalloon(deps, wanted).catch((error) => log.warn('balloon.failed', { error }));
    }
    if (!wanted.aborted) await save(deps, wanted);
  } catch (thrown) {
    if (!wanted.aborted) {
      await awake(deps).catch((error) => log.error('switchOn.failed', { error }));
      await saved.tidy().catch(() => {});
      throw thrown;
    }
  }
  if (wanted.aborted) {
    await awake(deps);
    await saved.tidy().catch(() => {});
    return result(false, await cgroup.resident());
  }
  await qemu.end();
  return result(true, 0);
}

/** Afterwards there is a claim, or `wanted` has aborted it. */
async function save(deps: SuspendToDiskDeps, wanted: AbortSignal): Promise<void> {
  const { vm, qmp, cgroup, saved, log } = deps;
  await saved.tidy();
  const [room, resident] = await Promise.all([saved.room(), cgroup.resident()]);
  if (room < resident + ROOM_MARGIN_BYTES)
    throw new SeamlessError(
      'HOST_DISK_FULL',
      `Expected room for the ${mebibytes(resident)} MiB of ${vm} in ${saved.folder}, got ${mebibytes(room)} MiB`,
    );
  const started = performance.now();
  await qmp.execute('stop');
  await saved.listen();
  await qmp.execute('migrate-set-parameters', { 'max-bandwidth': BYTES_PER_SECOND });
  await qmp.execute('migrate', { uri: `unix:${saved.socket}` });
  const sent = await migrated(qmp, wanted);
  if (wanted.aborted) return;
  if (sent.status !== 'completed') throw await notSaved(deps, sent);
  const { package: pack, qemu } = await qmp.execute<{ package: string; qemu: Record<string, number> }>(
    'query-version',
  );
  const claim: Claim = {
    ...{ format: 1, vm, savedAt: new Date().toISOString() },
    qemu: `${qemu['major']}.${qemu['minor']}.${qemu['micro']} ${pack}`.trim(),
    // QEMU has written its last by now: it gave the disks up when it had sent everything.
    disks: await saved.stamps(await writtenFiles(qmp)),
  };
  const { bytes } = await saved.finish(claim, wanted);
  log.info('switchOff.saved', { ms: Math.round(performance.now() - started), mib: mebibytes(bytes) });
}

async function switchOn(deps: SuspendToDiskDeps): Promise<void> {
  const { qmp, saved, qemu } = deps;
  const claim = await saved.claim();
  if (await qemu.isThere()) {
    const isEmpty = claim !== null && (await statusOf(qmp)) === 'inmigrate';
    if (!isEmpty) return awake(deps);
    await qemu.end(); // Its loading was interrupted; the file has all.
  }
  if (!claim) throw await qemu.missing();
  await load(deps, claim);
  await awake(deps);
}

async function load(deps: SuspendToDiskDeps, claim: Claim): Promise<void> {
  const { qmp, saved, qemu, log } = deps;
  assertUnwritten(claim, await saved.stamps(claim.disks.map(({ path }) => path)));
  const started = performance.now();
  await qemu.start(saved);
  const ready = performance.now();
  try {
    // The disks stay untouched until `cont`.
    await qmp.execute('migrate-set-capabilities', {
      capabilities: [{ capability: 'late-block-activate', state: true }],
    });
    await qmp.execute('migrate-incoming', { uri: `unix:${saved.socket}` });
    await saved.load();
    await loaded(qmp);
    const ms = (from: number) => Math.round(performance.now() - from);
    log.info('switchOn.loaded', { ms: ms(started), startMs: Math.round(ready - started) });
  } catch (thrown) {
    await qemu.end().catch((error) => log.warn('qemu.left', { error }));
    throw thrown;
  }
}

/** The claim goes first: from `cont` on the file is older than the disks. */
async function awake({ qmp, cgroup, saved }: SuspendToDiskDeps): Promise<void> {
  await saved.forget();
  await qmp.execute('cont');
  await Promise.all([deflateBalloon(qmp), cgroup.lift()]);
}

async function isUnwritten({ saved, log }: SuspendToDiskDeps, claim: Claim): Promise<boolean> {
  try {
    assertUnwritten(claim, await saved.stamps(claim.disks.map(({ path }) => path)));
    return true;
  } catch (error) {
    log.warn('savedState.stale', { error });
    return false;
  }
}

interface Sending {
  status?: string;
  'error-desc'?: string;
}

/** How QEMU's sending ended; gives it up when `wanted` aborts, or it takes too long. */
async function migrated(qmp: Qmp, wanted: AbortSignal): Promise<Sending> {
  const deadline = performance.now() + SAVE_MS;
  let isCancelled = false;
  for (;;) {
    const sending = await qmp.execute<Sending>('query-migrate');
    if (['completed', 'failed', 'cancelled'].includes(sending.status ?? '')) return sending;
    const isLate = performance.now() > deadline;
    if ((wanted.aborted || isLate) && !isCancelled) {
      await qmp.execute('migrate_cancel');
      isCancelled = true;
    }
    if (performance.now() > deadline + CANCEL_MS)
      throw new SeamlessError('TIMEOUT', `QEMU goes on sending its memory: ${sending.status}`);
    await delay(POLL_MS);
  }
}

async function notSaved({ vm, saved }: SuspendToDiskDeps, sent: Sending): Promise<SeamlessError> {
  const problem = await saved.problem();
  return new SeamlessError(
    isFull(problem) ? 'HOST_DISK_FULL' : 'COMMAND_FAILED',
    `The memory of ${vm} could not be saved in ${saved.folder}: ${problem || sent['error-desc'] || sent.status}`,
    { details: { ...sent } },
  );
}

/** The helper has sent all: QEMU takes a moment to be done with it. */
async function loaded(qmp: Qmp): Promise<void> {
  const deadline = performance.now() + LOAD_MS;
  while ((await statusOf(qmp)) === 'inmigrate') {
    if (performance.now() > deadline)
      throw new SeamlessError('TIMEOUT', 'QEMU does not end loading its memory');
    await delay(POLL_MS);
  }
}

/** Regular files that QEMU writes to; block devices and network disks carry no time of their last write. */
async function writtenFiles(qmp: Qmp): Promise<string[]> {
  const blocks = await qmp.execute<{ inserted?: { ro: boolean; file: string } }[]>('query-block');
  return blocks.flatMap(({ inserted }) =>
    inserted && !inserted.ro && inserted.file.startsWith('/') && !inserted.file.startsWith('/dev/')
      ? [inserted.file]
      : [],
  );
}

async function statusOf(qmp: Qmp): Promise<string> {
  return (await qmp.execute<{ status: string }>('query-status')).status;
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / 2 ** 20);
}
