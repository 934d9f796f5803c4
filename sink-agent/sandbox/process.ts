/** A process that can be told from another one that got its PID later. */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';

export interface ProcessIdentity {
  pid: number;
  /** Ticks since boot, field 22 of /proc/PID/stat. */
  startTime: string;
}

/** The identity of `pid` now, or `null` when there is none (a zombie doesn't count). */
export function identify(pid: number): ProcessIdentity | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // the name before may hold anything
    return fields[0] === 'Z' || fields[0] === 'X' ? null : { pid, startTime: fields[19] ?? '' };
  } catch {
    return null;
  }
}

export function isAlive(process: ProcessIdentity): boolean {
  return identify(process.pid)?.startTime === process.startTime;
}

/** Host PIDs by the number that each has in its innermost PID namespace. */
export async function byInnerPid(hostPids: number[]): Promise<Map<number, number>> {
  const pairs = await Promise.all(
    hostPids.map(async (pid) => {
      const status = await readFile(`/proc/${pid}/status`, 'utf8');
      const inner = /^NSpid:.*?(\d+)$/m.exec(status)?.[1];
      return [Number(inner ?? pid), pid] as const;
    }),
  );
  return new Map(pairs);
}
