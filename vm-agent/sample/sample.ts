/**
 * What the guest shows of being used, every ten seconds: counters since the agent's start, people at terminals, jobs, and what it will do
 * by itself. The agent's own work is left out of the CPU time. What costs a process, timers, lease and gateway processes, is asked every
 * five minutes, and when something has changed; under emulation that takes seconds, for which no sample waits.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { GuestSample } from '../api.ts';
import { readBootId } from '../checkpoint/network.ts';
import { isContainer } from '../container.ts';
import { diskTraffic } from '../disks.ts';
import { eachProcess, unitOf } from '../gateway/snapshot.ts';
import { readProcessUsage } from '../usage.ts';
import { readLease } from './lease.ts';
import { BusyMeter, LoadMeter } from './load.ts';
import { jobsOf, sessionsOf, sinceTyped, type TerminalProcess } from './terminals.ts';
import { type Plans, plansStamp, readPlans } from './timers.ts';
import { isWaiting } from './waiting.ts';

/** USER_HZ, the same on every Linux. */
const TICK_MS = 10;
const PAGE_BYTES = 4096;
const OUTLOOK_LASTS_MS = 5 * 60_000;
const OUTLOOK_MOST_MS = 2 * OUTLOOK_LASTS_MS;
/** What takes longer goes on beside the samples. */
const OUTLOOK_WAIT_MS = 1000;

export interface Sampler {
  sample(): Promise<GuestSample>;
}

type Lease = { expiresMs: number } | null | undefined;

interface Outlook extends Plans {
  lease: Lease;
  gateway: ReadonlySet<number>;
  /** When this was asked, and what the plans' stamp was then. */
  atMs: number;
  stamp: string;
}

/** @param gatewayPids looks for the gateway processes, whose load is not counted as the VM's own */
export function createSampler(gatewayPids: () => Promise<ReadonlySet<number>>): Sampler {
  const load = new LoadMeter();
  const busy = new BusyMeter();
  let outlook: Outlook | null = null;
  let asking: Promise<Outlook> | null = null;

  const ask = () => {
    asking ??= readOutlook(gatewayPids)
      .then((newer) => {
        outlook = newer;
        return newer;
      })
      .finally(() => {
        asking = null;
      });
    return asking;
  };
  /** As it is now, where that can be told soon; else as of the last sample. */
  const look = async (): Promise<Outlook> => {
    const now = Date.now();
    // A clock that was set back makes it old, too.
    const ageMs = outlook ? Math.abs(now - outlook.atMs) : Number.POSITIVE_INFINITY;
    if (!outlook || ageMs > OUTLOOK_MOST_MS) return ask();
    const { timers, isPending, stamp } = outlook;
    if (isPending || isFiring(timers, now) || ageMs >= OUTLOOK_LASTS_MS || plansStamp() !== stamp) {
      // One that failed is asked again by the next sample; when it is too old, that one fails.
      const enough = new AbortController();
      const late = delay(OUTLOOK_WAIT_MS, null, { signal: enough.signal }).catch(() => null);
      await Promise.race([ask().catch(() => {}), late]);
      enough.abort();
    }
    return outlook;
  };

  return {
    async sample() {
      const { timers, scheduledUnits, lease, gateway } = await look();
      const processes = readProcesses();
      const { all, agent } = readProcessUsage();
      const ofProcesses = all.reduce((sum, { cpuMs }) => sum + cpuMs, 0);
      const ofMachine = isContainer() ? 0 : busyTime(readText('/proc/stat')) - (agent?.cpuMs ?? 0);
      return {
        bootId: readBootId(),
        epochMs: Date.now(),
        uptimeMs: uptimeMs(),
        cpus: availableParallelism(),
        cpuBusyMs: busy.read(ofProcesses, ofMachine),
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

/**
 * A time of theirs has come. systemd may start one a minute late (AccuracySec=) and names its old time until then, so they are asked for again
 * as long as that may be; one that stays is not asked for ever. Unknown ones always are.
 */
export function isFiring(timers: GuestSample['timers'], now: number): boolean {
  return timers?.some(({ atMs }) => atMs <= now && atMs > now - OUTLOOK_LASTS_MS) ?? true;
}

async function readOutlook(gatewayPids: () => Promise<ReadonlySet<number>>): Promise<Outlook> {
  const atMs = Date.now();
  const stamp = plansStamp();
  const [plans, lease, gateway] = await Promise.all([readPlans(atMs), readLease(atMs), gatewayPids()]);
  return { ...plans, lease, gateway, atMs, stamp };
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
    return sinceTyped(statSync(`/dev/${terminal}`).atimeMs, Date.now());
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
