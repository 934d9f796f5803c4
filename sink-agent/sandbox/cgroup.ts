/**
 * The cgroup (v2) of a sink: who is in it, stopping it, ending it.
 *
 *   sink-VM/            ended as a whole by cgroup.kill
 *     helper/           PID 1 and whoever holds stand-ins: never filtered, never frozen
 *     processes/        the VM's: what the syscall filter watches and freezes
 *       tree-ROOT/      one per process tree: CRIU wants a frozen cgroup that holds the dumped tree and nothing else
 */
import { existsSync, watch } from 'node:fs';
import { mkdir, readdir, readFile, rmdir, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SeamlessError } from '../../common/errors.ts';
import { enableControllers } from './limits.ts';

const POLL_MS = 1;
const CGROUP2_MAGIC = 0x63677270;

export interface SinkCgroup {
  path: string;
  helper: string;
  processes: string;
}

export function sinkCgroup(root: string, name: string): SinkCgroup {
  return cgroupAt(join(root, name));
}

export function cgroupAt(path: string): SinkCgroup {
  return { path, helper: join(path, 'helper'), processes: join(path, 'processes') };
}

/** Name of a tree's cgroup below the sink's. */
export function treeCgroup(root: number): string {
  return `processes/tree-${root}`;
}

/**
 * Makes the folder of all sinks; gives the controllers that limit each of them.
 * `PREREQUISITE_MISSING` when it is not in a cgroup v2 file system that can freeze.
 */
export async function prepareCgroupRoot(root: string): Promise<string[]> {
  await mkdir(root, { recursive: true }).catch(() => {}); // what is there instead is said below
  const type = await statfs(root).then(
    (found) => found.type,
    () => null,
  );
  if (type === CGROUP2_MAGIC && existsSync(join(root, 'cgroup.freeze'))) return enableControllers(root);
  throw new SeamlessError(
    'PREREQUISITE_MISSING',
    `Expected cgroupRoot ${root} to be below a cgroup v2 mount (not its root), got something else; mount cgroup2 and name a folder in it`,
  );
}

export async function createCgroup(cgroup: SinkCgroup): Promise<void> {
  await mkdir(cgroup.helper, { recursive: true });
  await mkdir(cgroup.processes, { recursive: true });
}

/** Puts process `pid` (host's number) into `folder`. */
export function enterCgroup(folder: string, pid: number): Promise<void> {
  return writeFile(join(folder, 'cgroup.procs'), String(pid));
}

/** Asks for frozen or thawed; the kernel sees to it that no task runs an instruction from here on. */
export function setFrozen(folder: string, frozen: boolean): Promise<void> {
  return writeFile(join(folder, 'cgroup.freeze'), frozen ? '1' : '0');
}

export function waitFrozen(folder: string, timeoutMs = 5000): Promise<void> {
  return waitEvent(folder, 'frozen 1', timeoutMs);
}

export async function processesIn(folder: string): Promise<number[]> {
  const text = await readFile(join(folder, 'cgroup.procs'), 'utf8');
  return text.split('\n').filter(Boolean).map(Number);
}

/** Every process of the VM, of all trees. */
export async function treeProcesses(cgroup: SinkCgroup): Promise<number[]> {
  const entries = await readdir(cgroup.processes, { withFileTypes: true });
  const trees = entries.filter((entry) => entry.isDirectory());
  return (await Promise.all(trees.map(({ name }) => processesIn(join(cgroup.processes, name))))).flat();
}

export async function isPopulated(folder: string): Promise<boolean> {
  return (await readFile(join(folder, 'cgroup.events'), 'utf8')).includes('populated 1');
}

/** Calls `look` whenever processes have come to `folder` and below or have all gone; until the cgroup ends or the answer is called. */
export function watchPopulation(folder: string, look: () => void): () => void {
  const watcher = watch(join(folder, 'cgroup.events'), { persistent: false }, look);
  watcher.on('error', () => {}); // it ended with the cgroup
  return () => watcher.close();
}

/** Ends every process in `folder` and below, frozen or not; resolves when none is left. A container engine may remove it at that. */
export async function killCgroup(folder: string, timeoutMs = 10_000): Promise<void> {
  await writeFile(join(folder, 'cgroup.kill'), '1').catch(ignoreMissing);
  await waitEvent(folder, 'populated 0', timeoutMs).catch(ignoreMissing);
}

/** Removes `folder` and all below; there must be no process in it. Nothing to do when it is gone. */
export async function removeCgroup(folder: string): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(ignoreMissing);
  if (entries === null) return;
  for (const entry of entries) if (entry.isDirectory()) await removeCgroup(join(folder, entry.name));
  await rmdir(folder).catch(ignoreMissing);
}

async function waitEvent(folder: string, line: string, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const events = await readFile(join(folder, 'cgroup.events'), 'utf8');
    if (events.includes(line)) return;
    if (performance.now() > deadline) {
      throw new SeamlessError(
        'TIMEOUT',
        `Expected "${line}" in ${folder}/cgroup.events within ${timeoutMs} ms, got ${events.trim().replace('\n', ', ')}`,
      );
    }
    await delay(POLL_MS);
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT' || error.code === 'ENODEV') return null; // the latter of a file that was open when its cgroup went
  throw error;
}
