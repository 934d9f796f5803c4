/**
 * How long tasks of a host have waited for memory or its disk: the kernel's pressure stall information, or, where a kernel has
 * none, the counts of allocations that had to reclaim memory themselves. Only differences of two readings mean anything.
 */
import { type HostTransport, isMissing } from '../host/transport.ts';

export interface Stalls {
  /** Microseconds in which some task waited for memory, and for input or output; null without pressure information. */
  memoryUs: number | null;
  ioUs: number | null;
  /** Allocations that had to reclaim first. */
  allocations: number;
}

export async function readStalls(host: HostTransport): Promise<Stalls> {
  const [memory, io] = await Promise.all([
    textOrNull(host, '/proc/pressure/memory'),
    textOrNull(host, '/proc/pressure/io'),
  ]);
  const memoryUs = memory === null ? null : stalledUs(memory);
  const ioUs = io === null ? null : stalledUs(io);
  if (memoryUs !== null) return { memoryUs, ioUs, allocations: 0 };
  return { memoryUs, ioUs, allocations: directReclaims(await host.readFile('/proc/vmstat')) };
}

/** `total` of the `some` line; null when the file is not of that kind. */
export function stalledUs(text: string): number | null {
  const found = /^some .*\btotal=(\d+)/m.exec(text);
  return found ? Number(found[1]) : null;
}

/** Percent of the last ten seconds in which all tasks waited at once. */
export function fullPercent(text: string): number | null {
  const found = /^full .*\bavg10=([\d.]+)/m.exec(text);
  return found ? Number(found[1]) : null;
}

/** By zone, since Linux 4.8. */
export function directReclaims(vmstat: string): number {
  return [...vmstat.matchAll(/^allocstall\w* (\d+)$/gm)].reduce((sum, [, count]) => sum + Number(count), 0);
}

/** The share of `ms` in which others waited, 0 to 1. */
export function stalledShare(before: Stalls, after: Stalls, ms: number): number {
  if (after.memoryUs === null || before.memoryUs === null)
    return after.allocations > before.allocations ? 1 : 0;
  const us = Math.max(after.memoryUs - before.memoryUs, (after.ioUs ?? 0) - (before.ioUs ?? 0));
  return ms > 0 ? Math.min(1, us / 1000 / ms) : 0;
}

export async function textOrNull(host: HostTransport, path: string): Promise<string | null> {
  return host.readFile(path).catch((error) => {
    // Without pressure information there is no such file, or one that can't be read (psi=0).
    if (isMissing(error) || error.cause?.code === 'EOPNOTSUPP') return null;
    throw error;
  });
}
