/**
 * What the guest shows of being used, every ten seconds: counters since the boot, people at terminals, jobs, and what it will do by itself.
 * The agent's own work is left out of the CPU time. What costs a process, timers, lease and gateway processes, is asked once a
 * minute, and when a timer has passed.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import type { GuestSample } from '../api.ts';
import { readBootId } from '../checkpoint/network.ts';
import { isContainer } from '../container.ts';
import { diskTraffic } from '../disks.ts';
import { eachProcess, unitOf } from '../gateway/snapshot.ts';
import { readProcessUsage } from '../usage.ts';
import { readLease } from './lease.ts';
import { LoadMeter } from './load.ts';
import { jobsOf, sessionsOf, type TerminalProcess } from './terminals.ts';
import { type Plans, readPlans } from './timers.ts';
import { isWaiting } from './waiting.ts';

/** USER_HZ, the same on every Linux. */
const TICK_MS = 10;
const PAGE_BYTES = 4096;
const PLANS_LAST_MS = 60_000;

export interface Sampler {
  sample(): Promise<GuestSample>;
}

type Lease = { expiresMs: number } | null | undefined;

/** @param gatewayPids looks for the gateway processes, whose load is not counted as the VM's own */
export function createSampler(gatewayPids: () => Promise<ReadonlySet<number>>): Sampler {
  const load = new LoadMeter();
  let busyMs = 0;
  let gateway: ReadonlySet<number> = new Set();
  let plans: (Plans & { lease: Lease }) | null = null;
  let plansAt = 0;

  const plansOf = async (now: number) => {
    const hasPassed = plans?.timers?.some(({ atMs }) => atMs > plansAt && atMs <= now) ?? true;
    // A clock that was set back makes them old, too.
    if (plans && !plans.isPending && !hasPassed && Math.abs(now - plansAt) < PLANS_LAST_MS) return plans;
    const [read, lease, pids] = await Promise.all([readPlans(now), readLease(now), gatewayPids()]);
    gateway = pids;
    plans = { ...read, lease };
    plansAt = now;
    return plans;
  };

  return {
    async sample() {
      const { timers, scheduledUnits, lease } = await plansOf(Date.now());
      const processes = readProcesses();
      const { all, agent } = readProcessUsage();
      const allMs = isContainer()
        ? all.reduce((sum, { cpuMs }) => sum + cpuMs, 0)
        : busyTime(readText('/proc/stat')) - (agent?.cpuMs ?? 0);
      // Of two clocks of unlike grain the difference may tremble, and who ends may take its time along; a counter must not go back.
      busyMs = Math.max(busyMs, allMs);
      return {
        bootId: readBootId(),
        epochMs: Date.now(),
        uptimeMs: uptimeMs(),
        cpus: availableParallelism(),
        cpuBusyMs: busyMs,
        loadMs: load.read(all, gateway),
        diskBytes: isContainer() ? 0 : diskBytes(),
        dirtiedBytes: isContainer() ? 0 : dirtiedBytes(readText('/proc/vmstat')),
        sessions: sessionsOf(processes, terminalIdleMs),
        jobs: jobsOf(processes, scheduledUnits, processUnit),
        timers,
        ...(lease === undefined ? {} : { lease }),
      };
    },
  };
}

/** Milliseconds that the CPUs have worked, by the text of /proc/stat; waiting for disks and time stolen by the host is no work. */
export function busyTime(stat: string): number {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = (/^cpu +(.*)$/m.exec(stat)?.[1] ?? '')
    .split(' ')
    .map(Number);
  return (user + nice + system + irq + softirq) * TICK_MS;
}

function uptimeMs(): number {
  return Math.round(Number(readText('/proc/uptime').split(' ')[0]) * 1000);
}

function diskBytes(): number {
  const { readBytes, writtenBytes } = diskTraffic(readText('/proc/diskstats'));
  return readBytes + writtenBytes;
}

/** Memory of files that was written to, by the text of /proc/vmstat. */
export function dirtiedBytes(vmstat: string): number {
  return Number(/^nr_dirtied (\d+)$/m.exec(vmstat)?.[1] ?? Number.NaN) * PAGE_BYTES;
}

function readProcesses(): TerminalProcess[] {
  return eachProcess((pid, program, field) => ({
    pid,
    program,
    parent: field(1),
    processGroup: field(2),
    terminal: field(4),
    foreground: field(5),
    isWaiting: () => areThreadsWaiting(pid),
  }));
}

function areThreadsWaiting(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).every((tid) =>
      isWaiting(readText(`/proc/${pid}/task/${tid}/syscall`)),
    );
  } catch {
    return false; // It may have ended, or may not be looked at: doubt means that it runs.
  }
}

/** The kernel notes on a terminal when it was last read from. */
function terminalIdleMs(terminal: string): number | null {
  try {
    return Date.now() - statSync(`/dev/${terminal}`).atimeMs;
  } catch {
    return null;
  }
}

function processUnit(pid: number): string | null {
  try {
    return unitOf(readText(`/proc/${pid}/cgroup`).trim().split('::').at(-1) ?? '');
  } catch {
    return null;
  }
}

function readText(path: string): string {
  return readFileSync(path, 'latin1');
}
