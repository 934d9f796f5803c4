/**
 * The memory cgroup of a VM's QEMU: pushes its pages out to swap, and lets it have them again. Version 1 or 2 is told by the
 * files that its folder has; both reclaim in strokes (reclaim.ts).
 */
import { SeamlessError } from '../../common/errors.ts';
import { type HostTransport, isMissing } from '../host/transport.ts';
import { cgroupV1 } from './cgroup-v1.ts';
import { cgroupV2 } from './cgroup-v2.ts';
import type { Pace } from './reclaim.ts';

export interface MemoryCgroup {
  /** Bytes that the group is charged for, page cache included. */
  usage(): Promise<number>;
  /** Reclaims down to `floorBytes`, as far as it can; ends early, without an error, when `wanted` aborts. */
  squeeze(floorBytes: number, wanted: AbortSignal): Promise<void>;
  /** No limit; safe to repeat. */
  lift(): Promise<void>;
  /** Resident bytes of the group’s processes: `Rss` of /proc/PID/smaps_rollup, shared libraries included. */
  resident(): Promise<number>;
  /** Bytes of theirs that are in swap. */
  swapped(): Promise<number>;
  /** PIDs of its processes, QEMU's as a rule alone; none when there is no such group, as after a reboot. */
  processes(): Promise<number[]>;
}

/** What the version decides; the rest is read from /proc. */
export type CgroupFiles = Pick<MemoryCgroup, 'usage' | 'squeeze' | 'lift'>;

/**
 * @param path the cgroup’s folder, `/sys/fs/cgroup/memory/…` (v1) or `/sys/fs/cgroup/…` (v2); which of the two it is
 * is found out at the first use
 * @param pace rests between the strokes, so that the host's other VMs get their turn; none unless told
 */
export function memoryCgroup(host: HostTransport, path: string, pace?: Pace): MemoryCgroup {
  let found: Promise<CgroupFiles> | null = null;
  const cgroup = () => {
    found ??= detect(host, path, pace).catch((error) => {
      found = null;
      throw error;
    });
    return found;
  };
  const processes = () => processesIn(host, path);
  const rollups = async () => Promise.all((await processes()).map((pid) => rollupOf(host, pid)));
  return {
    usage: async () => (await cgroup()).usage(),
    squeeze: async (floorBytes, wanted) => (await cgroup()).squeeze(floorBytes, wanted),
    lift: async () => (await cgroup()).lift(),
    processes,
    resident: async () => sum((await rollups()).map(({ resident }) => resident)),
    swapped: async () => sum((await rollups()).map(({ swapped }) => swapped)),
  };
}

async function detect(host: HostTransport, path: string, pace?: Pace): Promise<CgroupFiles> {
  if (await hasFile(host, `${path}/memory.limit_in_bytes`)) return cgroupV1(host, path, pace);
  if (await hasFile(host, `${path}/memory.max`)) return cgroupV2(host, path, pace);
  throw new SeamlessError(
    'HOST_UNREACHABLE',
    `Expected a memory cgroup at ${path} on ${host.name}, got no memory.limit_in_bytes and no memory.max there`,
  );
}

function hasFile(host: HostTransport, path: string): Promise<boolean> {
  return host.readFile(path).then(
    () => true,
    () => false,
  );
}

async function processesIn(host: HostTransport, path: string): Promise<number[]> {
  const text = await host.readFile(`${path}/cgroup.procs`).catch((error) => {
    if (isMissing(error)) return '';
    throw error;
  });
  return text.split('\n').filter(Boolean).map(Number);
}

async function rollupOf(host: HostTransport, pid: number) {
  const rollup = await host.readFile(`/proc/${pid}/smaps_rollup`).catch(() => '');
  const bytes = (field: string) =>
    Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(rollup)?.[1] ?? 0) * 1024;
  return { resident: bytes('Rss'), swapped: bytes('Swap') };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((all, each) => all + each, 0);
}
