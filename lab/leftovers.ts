/** Finds, ends and removes what has been started or made under a name, whatever state it is in: processes by PID, cgroups, mounts. */
import { existsSync } from 'node:fs';
import { readdir, readFile, rmdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import { readStartTime } from './processes.ts';

const CGROUPS = '/sys/fs/cgroup';
const POLL_MS = 20;

/** Where a cgroup of that name may be: in one hierarchy, or in one per controller of v1 and v2 beside them. */
export async function cgroupsNamed(name: string): Promise<string[]> {
  if (existsSync(join(CGROUPS, 'cgroup.controllers'))) return [join(CGROUPS, name)];
  return (await readdir(CGROUPS)).map((hierarchy) => join(CGROUPS, hierarchy, name));
}

/** The cgroup and all below it, deepest first; nothing when it is not there. */
export async function cgroupTree(cgroup: string): Promise<string[]> {
  const entries = await readdir(cgroup, { withFileTypes: true }).catch(() => null);
  if (entries === null) return [];
  const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(cgroup, name));
  return [...(await Promise.all(folders.map(cgroupTree))).flat(), cgroup];
}

/** PIDs of all but this process that are in one of the cgroups or below, or in one of the network namespaces (paths). */
export async function processesIn(
  cgroups: readonly string[],
  namespaces: readonly string[],
): Promise<number[]> {
  const pids: string[] = [];
  for (const cgroup of cgroups)
    for (const folder of await cgroupTree(cgroup))
      pids.push(...(await readFile(join(folder, 'cgroup.procs'), 'utf8').catch(() => '')).split('\n'));
  for (const namespace of namespaces)
    if (existsSync(namespace))
      pids.push(...(await exec(['ip', 'netns', 'pids', basename(namespace)])).stdout.split('\n'));
  return [...new Set(pids)]
    .filter((pid) => pid !== '')
    .map(Number)
    .filter((pid) => pid !== process.pid);
}

export interface Ending {
  find(): Promise<number[]>;
  /** Whose they are, for people. */
  whose: string;
  timeoutMs: number;
  beforeEachRound?(): Promise<void>;
}

/** Kills what `find` finds until it finds nothing. Throws `TIMEOUT`. */
export async function endProcesses({ find, whose, timeoutMs, beforeEachRound }: Ending): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const left = (await find()).filter((pid) => readStartTime(pid) !== null);
    if (left.length === 0) return;
    if (performance.now() > deadline)
      throw new SeamlessError(
        'TIMEOUT',
        `processes ${left.join(', ')} of ${whose} don't end; see ps -fp, then run this again`,
      );
    await beforeEachRound?.();
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

/** Removes the cgroup and all below it, in which nothing runs any more. */
export async function removeCgroup(cgroup: string, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
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

/** Unmounts what is mounted below `folder`, and on itself if told, the last first. */
export async function unmountBelow(folder: string, { itself = false } = {}): Promise<void> {
  const { stdout } = await exec(['findmnt', '--noheadings', '--raw', '--output', 'TARGET']);
  const mounted = stdout
    .split('\n')
    .filter((target) => target.startsWith(`${folder}/`) || (itself && target === folder));
  for (const target of mounted.reverse()) await exec(['umount', '--lazy', target]);
}
