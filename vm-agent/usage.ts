/**
 * What the guest's processes have used so far, told apart into the gateway processes and all others; the agent and its
 * children are left out, and threads of the kernel. Two readings and their difference say whether the VM did anything.
 *
 * All of it is in /proc/PID/stat: one small file per process, since under emulation every call counts.
 */
import { readFileSync } from 'node:fs';
import type { GroupUsage, GuestUsage } from './api.ts';
import { readBootId } from './checkpoint/network.ts';
import { isContainer } from './container.ts';
import { diskTraffic } from './disks.ts';
import { eachProcess } from './gateway/snapshot.ts';

const KERNEL_THREAD = 0x00200000;
/** USER_HZ, the same on every Linux. */
const TICK_MS = 10;

export interface ProcessUsage {
  pid: number;
  parent: number;
  program: string;
  isKernelThread: boolean;
  /** Its own and that of the children it has reaped: what ran and ended in between is not missed. */
  cpuMs: number;
  reaped: number;
  startedMs: number;
}

/** @param gateway PIDs of the gateway processes; @param agent of the agent itself */
export function readUsage(gateway: readonly number[], agent = process.pid): Omit<GuestUsage, 'clientBytes'> {
  const counted = readProcessUsage(agent).all;
  const members = new Set(gateway);
  const others = counted.filter(({ pid }) => !members.has(pid));
  const [newest] = others.toSorted((a, b) => b.startedMs - a.startedMs);
  const [uptime = '0'] = readFileSync('/proc/uptime', 'latin1').split(' ');
  return {
    bootId: readBootId(),
    uptimeMs: Math.round(Number(uptime) * 1000),
    gateway: sum(counted.filter(({ pid }) => members.has(pid))),
    others: sum(others),
    newest: newest ? { pid: newest.pid, program: newest.program, startedMs: newest.startedMs } : null,
    writtenBytes: isContainer() ? 0 : diskTraffic(readFileSync('/proc/diskstats', 'latin1')).writtenBytes,
  };
}

/** Of all processes but the kernel's and the agent's, and of the agent itself. */
export function readProcessUsage(agent = process.pid): { all: ProcessUsage[]; agent: ProcessUsage | null } {
  const samples = eachProcess(
    (pid, program, field): ProcessUsage => ({
      pid,
      parent: field(1),
      program,
      isKernelThread: (field(6) & KERNEL_THREAD) !== 0,
      cpuMs: (field(11) + field(12) + field(13) + field(14)) * TICK_MS,
      reaped: field(8),
      startedMs: field(19) * TICK_MS,
    }),
  );
  const mine = descendants(samples, agent);
  return {
    all: samples.filter(({ pid, isKernelThread }) => !isKernelThread && !mine.has(pid)),
    agent: samples.find(({ pid }) => pid === agent) ?? null,
  };
}

function descendants(samples: readonly ProcessUsage[], root: number): Set<number> {
  const found = new Set([root]);
  for (let before = 0; before !== found.size; ) {
    before = found.size;
    for (const { pid, parent } of samples) if (found.has(parent)) found.add(pid);
  }
  return found;
}

function sum(samples: readonly ProcessUsage[]): GroupUsage {
  return {
    cpuMs: samples.reduce((total, { cpuMs }) => total + cpuMs, 0),
    reaped: samples.reduce((total, { reaped }) => total + reaped, 0),
  };
}
