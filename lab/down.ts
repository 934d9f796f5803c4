/**
 * `lab down`: leaves nothing of a lab, whatever state it is in, and may be run as often as one likes.
 *
 * It trusts state.json for nothing but a gentle end of the services: whatever runs in the lab's namespaces or cgroups, by PID,
 * is the lab's, and names follow from the plan.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import { withLock } from '../template/lock.ts';
import { removeContainers } from './docker.ts';
import {
  cgroupsNamed,
  cgroupTree,
  endProcesses,
  processesIn,
  removeCgroup,
  unmountBelow,
} from './leftovers.ts';
import { removeNetwork } from './network.ts';
import { HOST_NAMES, type LabPlan, namespacePath, planDocker } from './plan.ts';
import { stopProcess } from './processes.ts';
import { readState } from './state.ts';
import { removeSwap } from './swap.ts';

const SERVICE_GRACE_MS = 3000;
const END_MS = 10_000;

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
  const vms = new Set([...(state?.vms.map((vm) => vm.name) ?? []), state?.sinkServer]);
  if (state?.sink === 'docker') await removeContainers(planDocker(lab));
  for (const running of [...(state?.processes ?? [])].reverse())
    await stopProcess(running, vms.has(running.name) ? 0 : SERVICE_GRACE_MS);
  // Docker has the sinks' in every one.
  const cgroups = await cgroupsNamed(lab.cgroup);
  await endAll(lab, cgroups);
  for (const cgroup of cgroups) await removeCgroup(cgroup, END_MS);
  await unmountBelow(lab.runDirectory);
  await unmountBelow(lab.diskDirectory);
  await removeNetwork(lab);
  report('removing swap and files');
  await removeSwap(lab);
  await removeFolder(lab.diskDirectory);
  await removeFolder(lab.runDirectory);
}

/** Ends by PID whatever still runs in the lab's cgroups and namespaces: what a crash has left, or a shell somebody has open. */
function endAll(lab: LabPlan, cgroups: readonly string[]): Promise<void> {
  const namespaces = HOST_NAMES.map((host) => namespacePath(lab, host));
  return endProcesses({
    find: () => processesIn(cgroups, namespaces),
    whose: 'the lab',
    timeoutMs: END_MS,
    async beforeEachRound() {
      for (const cgroup of cgroups) await thaw(cgroup);
    },
  });
}

/** A frozen process is not ended by SIGKILL in v1's freezer; in v2's it is, but stays thawed the tidier way. */
async function thaw(cgroup: string): Promise<void> {
  for (const folder of await cgroupTree(cgroup))
    await writeFile(join(folder, 'cgroup.freeze'), '0').catch(() => {});
}

/** Only what the plan names, and never into another file system: a mount left over could be anything. */
async function removeFolder(folder: string): Promise<void> {
  if (!basename(folder).startsWith('seamless-lab') && !basename(folder).startsWith('lab'))
    throw new SeamlessError('INTERNAL', `expected a folder of a lab, got ${folder}`);
  await exec(['rm', '--recursive', '--force', '--one-file-system', folder]);
}
