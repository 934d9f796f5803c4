/**
 * What a sink may take of its server's memory and threads, as far as there is a cgroup to say it in.
 *
 * Until its processes have been restored the limit of memory is a hard one: what does not fit fails there, and its VM stays awake. From then
 * on they may be the only copy, and the kernel must not end them, nor CRIU that dumps them beside: the limit becomes a soft one, above which
 * they are paged out and slowed down.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { SinkLimits } from '../config.ts';
import type { SinkCgroup } from './cgroup.ts';

/** Of the controllers of v2. */
const LIMITING: readonly string[] = ['memory', 'pids'];
/** What v1 says for no limit, in pages of 4 KiB less than 2^63. */
const UNLIMITED_V1 = 2 ** 62;

/** For the sinks below `root`, and for it where whoever made its parent has not; beside v1's controllers there are none to have. */
export async function enableControllers(root: string): Promise<string[]> {
  // A folder with processes of its own (another's) can't hand controllers on; its sinks are not limited then.
  for (const folder of [dirname(root), root])
    for (const name of (await controllersOf(folder)).filter((name) => LIMITING.includes(name)))
      await writeFile(join(folder, 'cgroup.subtree_control'), `+${name}`).catch(() => {});
  const enabled = (await readFile(join(root, 'cgroup.subtree_control'), 'utf8')).trim().split(' ');
  return enabled.filter((name) => LIMITING.includes(name));
}

/** As far as this hierarchy has the controllers. */
export async function limitCgroup({ path }: SinkCgroup, { memoryMiB, pids }: SinkLimits): Promise<void> {
  const controllers = await controllersOf(path);
  if (controllers.includes('memory')) {
    await writeFile(join(path, 'memory.oom.group'), '1');
    await writeFile(join(path, 'memory.max'), String(memoryMiB * 2 ** 20));
  }
  if (controllers.includes('pids')) await writeFile(join(path, 'pids.max'), String(pids));
}

/** From here on nothing ends for want of memory of its own limit. @param v1 folders of controllers of v1 that limit the sink, too */
export async function softenMemoryLimit({ path }: SinkCgroup, v1: readonly string[]): Promise<void> {
  const limit = await read(path, 'memory.max');
  if (limit !== null && limit !== 'max') {
    await writeFile(join(path, 'memory.high'), limit);
    await writeFile(join(path, 'memory.max'), 'max');
  }
  for (const folder of v1) {
    const bytes = Number(await read(folder, 'memory.limit_in_bytes'));
    if (!(bytes > 0 && bytes < UNLIMITED_V1)) continue; // no controller of memory, or no limit
    await writeFile(join(folder, 'memory.soft_limit_in_bytes'), String(bytes));
    // Of memory and swap together: never below that of memory alone, so it goes first.
    if ((await read(folder, 'memory.memsw.limit_in_bytes')) !== null)
      await writeFile(join(folder, 'memory.memsw.limit_in_bytes'), '-1');
    await writeFile(join(folder, 'memory.limit_in_bytes'), '-1');
  }
}

async function controllersOf(folder: string): Promise<string[]> {
  return ((await read(folder, 'cgroup.controllers')) ?? '').split(' ');
}

async function read(folder: string, name: string): Promise<string | null> {
  const text = await readFile(join(folder, name), 'utf8').catch(() => null);
  return text === null ? null : text.trim();
}
