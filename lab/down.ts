/**
 * `lab down`: leaves nothing of a lab, whatever state it is in, and may be run as often as one likes.
 *
 * It trusts state.json for nothing but a gentle end of the services: whatever runs in the lab's namespaces or cgroups, by PID,
 * is the lab's, and names follow from the plan.
 */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import { withLock } from '../template/lock.ts';
import { cgroupHierarchies, removeContainers } from './docker.ts';
import { removeNetwork } from './network.ts';
import { HOST_NAMES, type LabPlan, namespacePath, planDocker } from './plan.ts';
import { readStartTime, stopProcess } from './processes.ts';
import { readState } from './state.ts';
import { removeSwap } from './swap.ts';

const SERVICE_GRACE_MS = 3000;
const END_MS = 10_000;
const POLL_MS = 20;

export function takeDown(lab: LabPlan, report: (line: string) => void): Promise<void> {
  return withLabLock(lab, report, () => takeDownAlone(lab, report));
}

/** One `up` or `down` of a lab at a time: the second waits. */
export async function withLabLock<T>(
  lab: LabPlan,
  report: (line: string) => void,
  work: () => Promise<T>,
): Promise<T> {
  await mkdir(lab.cache, { recursive: true });
  const waiting = () => report('another command works on this lab; waiting for it');
  return withLock(`${lab.diskDirectory}.lock`, waiting, work);
}

/** `takeDown` for who holds the lock. */
export async function takeDownAlone(lab: LabPlan, report: (line: string) => void): Promise<void> {
  const state = readState(lab);
  if (state) report('ending services and VMs');
  const vms = new Set(state?.vms.map((vm) => vm.name));
  if (state?.sink === 'docker') await removeContainers(planDocker(lab));
  for (const running of [...(state?.processes ?? [])].reverse())
    await stopProcess(running, vms.has(running.name) ? 0 : SERVICE_GRACE_MS);
  // Docker has the sinks' in every one.
  const cgroups = (await cgroupHierarchies()).map((hierarchy) => join(hierarchy, lab.cgroup));
  await endAll(lab, cgroups);
  for (const cgroup of cgroups) await removeCgroup(cgroup);
  await removeMounts(lab.runDirectory);
  await removeMounts(lab.diskDirectory);
  await removeNetwork(lab);
  report('removing swap and files');
  await removeSwap(lab);
  await removeFolder(lab.diskDirectory);
  await removeFolder(lab.runDirectory);
}

/** Ends by PID whatever still runs in the lab's cgroups and namespaces: what a crash has left, or a shell somebody has open. */
async function endAll(lab: LabPlan, cgroups: readonly string[]): Promise<void> {
  const deadline = performance.now() + END_MS;
  for (;;) {
    const left = (await processesOf(lab, cgroups)).filter((pid) => readStartTime(pid) !== null);
    if (left.length === 0) return;
    if (performance.now() > deadline)
      throw new SeamlessError(
        'TIMEOUT',
        `processes ${left.join(', ')} of the lab don't end; see ps -fp, then run this again`,
      );
    for (const cgroup of cgroups) await thaw(cgroup);
    for (const pid of left) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // gone in between
      }
    }
    await sleep(POLL_MS);
  }
}

async function processesOf(lab: LabPlan, cgroups: readonly string[]): Promise<number[]> {
  const pids: string[] = [];
  for (const cgroup of cgroups)
    for (const folder of await cgroupTree(cgroup))
      pids.push(...(await readFile(join(folder, 'cgroup.procs'), 'utf8').catch(() => '')).split('\n'));
  for (const host of HOST_NAMES)
    if (existsSync(namespacePath(lab, host)))
      pids.push(...(await exec(['ip', 'netns', 'pids', lab.namespaces[host]])).stdout.split('\n'));
  return [...new Set(pids)]
    .filter((pid) => pid !== '')
    .map(Number)
    .filter((pid) => pid !== process.pid);
}

/** A frozen process is not ended by SIGKILL in v1's freezer; in v2's it is, but stays thawed the tidier way. */
async function thaw(cgroup: string): Promise<void> {
  for (const folder of await cgroupTree(cgroup))
    await writeFile(join(folder, 'cgroup.freeze'), '0').catch(() => {});
}

/** The cgroup and all below it, deepest first. */
async function cgroupTree(cgroup: string): Promise<string[]> {
  const entries = await readdir(cgroup, { withFileTypes: true }).catch(() => []);
  const below = await Promise.all(
    entries.filter((entry) => entry.isDirectory()).map((entry) => cgroupTree(join(cgroup, entry.name))),
  );
  return existsSync(cgroup) ? [...below.flat(), cgroup] : [];
}

async function removeCgroup(cgroup: string): Promise<void> {
  const deadline = performance.now() + END_MS;
  for (const folder of await cgroupTree(cgroup))
    for (;;) {
      try {
        await rmdir(folder);
        break;
      } catch (error) {
        // A process that has just ended is still counted for a moment.
        if ((error as NodeJS.ErrnoException).code !== 'EBUSY' || performance.now() > deadline) throw error;
        await sleep(POLL_MS);
      }
    }
}

/** Unmounts what is mounted below the lab's folder, a sink's root for one, the last first. */
async function removeMounts(folder: string): Promise<void> {
  const { stdout } = await exec(['findmnt', '--noheadings', '--raw', '--output', 'TARGET']);
  const below = stdout.split('\n').filter((target) => target.startsWith(`${folder}/`));
  for (const target of below.reverse()) await exec(['umount', '--lazy', target]);
}

/** Only what the plan names, and never into another file system: a mount left over could be anything. */
async function removeFolder(folder: string): Promise<void> {
  if (!basename(folder).startsWith('seamless-lab') && !basename(folder).startsWith('lab'))
    throw new SeamlessError('INTERNAL', `expected a folder of a lab, got ${folder}`);
  await exec(['rm', '--recursive', '--force', '--one-file-system', folder]);
}
