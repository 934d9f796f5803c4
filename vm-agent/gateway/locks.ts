/**
 * File locks that somebody waits for: the holder and those that wait can't be parted, since a dump that ends the holder would hand
 * the lock on. A lock that nobody waits for ties no two processes together.
 */
import { readdirSync, readFileSync } from 'node:fs';

export interface WaitedLock {
  /** Device and inode of the file, as /proc/locks has it. */
  file: string;
  /** Who holds it or waits for it. */
  pids: number[];
}

interface LockLine {
  isWaiting: boolean;
  /** -1 for the lock of an open file description, 0 for a process of another PID namespace. */
  pid: number;
  file: string;
}

/** Reads /proc/locks; asks every process for its descriptors only when a holder has no PID there. */
export function readWaitedLocks(): WaitedLock[] {
  return waitedLocks(readFileSync('/proc/locks', 'latin1'), holdersByDescriptor);
}

/** @param holdersOf finds the processes that hold a lock on a file, by their descriptors. */
export function waitedLocks(text: string, holdersOf: (file: string) => number[]): WaitedLock[] {
  const lines = text.split('\n').flatMap(parseLock);
  const files = new Set(lines.filter(({ isWaiting }) => isWaiting).map(({ file }) => file));
  return [...files].map((file) => {
    const named = lines.filter((line) => line.file === file);
    // The PID of a flock is that of whoever called: its heirs hold it as well.
    const pids = [...named.map(({ pid }) => pid).filter((pid) => pid > 0), ...holdersOf(file)];
    return { file, pids: [...new Set(pids)] };
  });
}

/** `1: -> POSIX  ADVISORY  WRITE 1234 fe:00:5678 0 EOF` */
function parseLock(line: string): LockLine[] {
  const match = /^\d+: (-> )?\S+\s+\S+\s+\S+\s+(-?\d+) ([0-9a-f]+:[0-9a-f]+:\d+) /.exec(line);
  return match ? [{ isWaiting: match[1] !== undefined, pid: Number(match[2]), file: match[3] ?? '' }] : [];
}

function holdersByDescriptor(file: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && holds(pid, file));
}

function holds(pid: number, file: string): boolean {
  try {
    return readdirSync(`/proc/${pid}/fdinfo`).some((fd) =>
      readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'latin1')
        .split('\n')
        .some((line) => line.startsWith('lock:') && line.includes(` ${file} `)),
    );
  } catch {
    return false; // it has ended meanwhile
  }
}
