/**
 * The memory ledger of a host, and what it allows: pure. A host thrashes when what its VMs use at once no longer fits in memory,
 * and it dies of full swap. So a park that would fill the swap is refused, and a wake that would take the last free memory waits
 * until those before it are done, for a bounded time: it is never refused, because somebody waits for the VM.
 */
import type { SwapMedium } from './swap-medium.ts';

export interface VmMemory {
  vm: string;
  /** What the guest believes to have. */
  committedBytes: number;
  residentBytes: number;
  swappedBytes: number;
  /** What its last switch-off gave back to the host; 0 while it is awake. */
  freedBytes: number;
}

export interface HostMemory {
  host: string;
  totalBytes: number;
  availableBytes: number;
  swap: SwapMedium;
  /** Percent of the last ten seconds in which every task waited for memory; null without pressure information. */
  stalledPercent: number | null;
  /** Sums over `vms`. */
  committedBytes: number;
  residentBytes: number;
  swappedBytes: number;
  freedBytes: number;
  vms: VmMemory[];
  /** Wakes that wait for memory, in their order. */
  waiting: string[];
}

const MiB = 1024 * 1024;
/** Of the swap, for the host's own need. */
const SWAP_RESERVE = 0.1;
/** A host that waits for memory half of its time already thrashes. */
const THRASHING_PERCENT = 50;
/** Free memory that a wake must leave: a share of all, but no more than that. */
const RESERVE_SHARE = 0.05;
const MOST_RESERVE_BYTES = 512 * MiB;
/** What a wake reads back soon, whatever the VM's size: the guest's kernel and what serves its clients. */
const WORKING_SET_BYTES = 256 * MiB;

export type SwapNeed = Pick<HostMemory, 'host' | 'swap' | 'stalledPercent'> & {
  vm: string;
  /** What is resident and can't be had from the balloon. */
  toSwapBytes: number;
};

/** Why the VM's memory must not go to the host's swap now; null when it may. */
export function whyNotToSwap({ vm, host, swap, stalledPercent, toSwapBytes }: SwapNeed): string | null {
  if (stalledPercent !== null && stalledPercent > THRASHING_PERCENT)
    return `Expected ${host} not to be short of memory, got it waiting for some ${Math.round(stalledPercent)} % of the last ten seconds; park ${vm} when that is over`;
  // Without any swap only the balloon frees memory, which harms nobody.
  if (swap.sizeBytes === 0) return null;
  const room = swap.freeBytes - SWAP_RESERVE * swap.sizeBytes;
  if (toSwapBytes <= room) return null;
  return `Expected room for ${mebibytes(toSwapBytes)} MiB of ${vm} in the swap of ${host}, got ${mebibytes(Math.max(0, room))} MiB (a tenth is kept free); add swap, or switch ${vm} off to disk`;
}

/** What the wake of a VM will take from the host's free memory before long. */
export function wakeBytes({ swappedBytes }: Pick<VmMemory, 'swappedBytes'>): number {
  return Math.min(swappedBytes, WORKING_SET_BYTES);
}

/** Whether a wake may begin, beside those that are under way and have `reservedBytes` still to take. */
export function mayWake(
  { totalBytes, availableBytes }: Pick<HostMemory, 'totalBytes' | 'availableBytes'>,
  reservedBytes: number,
  neededBytes: number,
): boolean {
  const reserve = Math.min(MOST_RESERVE_BYTES, RESERVE_SHARE * totalBytes);
  return availableBytes - reservedBytes - neededBytes >= reserve;
}

export function ledgerOf(
  host: Pick<HostMemory, 'host' | 'totalBytes' | 'availableBytes' | 'swap' | 'stalledPercent' | 'waiting'>,
  vms: readonly VmMemory[],
): HostMemory {
  const sum = (of: (vm: VmMemory) => number) => vms.reduce((all, vm) => all + of(vm), 0);
  return {
    ...host,
    committedBytes: sum((vm) => vm.committedBytes),
    residentBytes: sum((vm) => vm.residentBytes),
    swappedBytes: sum((vm) => vm.swappedBytes),
    freedBytes: sum((vm) => vm.freedBytes),
    vms: [...vms],
  };
}

/** MemTotal and MemAvailable of /proc/meminfo. */
export function parseMeminfo(text: string): { totalBytes: number; availableBytes: number } {
  const bytes = (field: string) =>
    Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) * 1024;
  return { totalBytes: bytes('MemTotal'), availableBytes: bytes('MemAvailable') };
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / MiB);
}
