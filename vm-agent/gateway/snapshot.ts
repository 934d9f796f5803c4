/**
 * One look at the guest: its user processes with their descriptors, and its sockets. Everything that is decided about gateway
 * processes is decided on such a snapshot, by pure functions. Reading is synchronous: under emulation a thread-pool round trip
 * costs more than the call, and nothing else shall run in between.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { readWaitedLocks, type WaitedLock } from './locks.ts';
import { type Mapping, readMappings } from './mappings.ts';
import { readGroups } from './multicast.ts';
import { readSockets, type Socket } from './sockets.ts';

export interface Descriptor {
  fd: number;
  /** As /proc says it: a path, `socket:[1347]`, `pipe:[8]`, `anon_inode:[eventpoll]`. */
  target: string;
  /** Of a pty master: the number of its slave, `/dev/pts/N`. */
  terminal?: number;
  /** What names the object for every process that has it open, where `target` doesn't: of a FIFO with a path, of an eventfd. */
  object?: string;
  /** Of a pidfd: the process. */
  refersTo?: number;
}

export interface Process {
  pid: number;
  parent: number;
  session: number;
  /** Clock ticks since boot; with the PID it names a process for good. */
  startTime: number;
  program: string;
  executable: string;
  /** cgroup v2 path. */
  cgroup: string;
  /** systemd unit that the cgroup belongs to: `ssh.service`, `session-1.scope`. */
  unit: string;
  descriptors: Descriptor[];
}

export interface Snapshot {
  processes: Map<number, Process>;
  /** By inode. */
  sockets: Map<number, Socket>;
  locks: WaitedLock[];
  /** Multicast groups that somebody has joined, in hexadecimal. */
  groups: string[];
  /** What a process has mapped, nothing when it is gone. Read when asked for: it is dear. */
  mappings(pid: number): readonly Mapping[];
}

/** Reads /proc and asks the kernel for the peers of unix sockets. Kernel threads are left out; a process that ends meanwhile, too. */
export async function readSnapshot(): Promise<Snapshot> {
  const sockets = await readSockets();
  const processes = new Map<number, Process>();
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    const process = Number.isInteger(pid) ? readProcess(pid) : null;
    if (process) processes.set(pid, process);
  }
  const known = new Map<number, readonly Mapping[]>();
  const mappings = (pid: number): readonly Mapping[] => {
    const found = known.get(pid) ?? mappingsOf(pid);
    known.set(pid, found);
    return found;
  };
  return { processes, sockets, locks: readWaitedLocks(), groups: readGroups(), mappings };
}

/** `null` for a kernel thread, a zombie, or a process that is gone. */
export function readProcess(pid: number): Process | null {
  try {
    const { program, state, fields } = readStat(pid);
    const isKernelThread = (Number(fields[6]) & 0x00200000) !== 0;
    if (isKernelThread || state === 'Z' || state === 'X') return null;
    const cgroup = readCgroup(pid);
    return {
      pid,
      program,
      parent: Number(fields[1]),
      session: Number(fields[3]),
      startTime: Number(fields[19]),
      executable: readlinkSync(`/proc/${pid}/exe`),
      cgroup,
      unit: unitOf(cgroup),
      descriptors: readDescriptors(pid),
    };
  } catch (thrown) {
    if (['ENOENT', 'ESRCH'].includes((thrown as NodeJS.ErrnoException).code ?? '')) return null;
    throw thrown;
  }
}

/** @returns the name, the state, and what follows the name in /proc/PID/stat (the state is field 0, the parent 1, …). */
export function readStat(pid: number): { program: string; state: string; fields: string[] } {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const end = text.lastIndexOf(')'); // the name itself may hold parentheses and spaces
  const fields = text.slice(end + 2).split(' ');
  return { program: text.slice(text.indexOf('(') + 1, end), state: fields[0] ?? '', fields };
}

/** Reads every process there is by `read`; one that ends meanwhile is left out. */
export function eachProcess<T>(
  read: (pid: number, program: string, field: (index: number) => number) => T,
): T[] {
  return readdirSync('/proc').flatMap((name) => {
    const pid = Number(name);
    if (!Number.isInteger(pid)) return [];
    try {
      const { program, fields } = readStat(pid);
      return [read(pid, program, (index) => Number(fields[index]))];
    } catch {
      return []; // It has ended since the folder was read.
    }
  });
}

/** The unit of a cgroup: the first service or scope on its path. `-.slice` for what is in none. */
export function unitOf(cgroup: string): string {
  return cgroup.split('/').find((part) => /\.(service|scope|socket|mount|swap)$/.test(part)) ?? '-.slice';
}

function mappingsOf(pid: number): Mapping[] {
  try {
    return readMappings(pid);
  } catch {
    return []; // it has ended
  }
}

function readCgroup(pid: number): string {
  const line = readFileSync(`/proc/${pid}/cgroup`, 'utf8')
    .split('\n')
    .find((text) => text.startsWith('0::'));
  return line?.slice(3) ?? '/';
}

function readDescriptors(pid: number): Descriptor[] {
  const descriptors: Descriptor[] = [];
  for (const name of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const target = readlinkSync(`/proc/${pid}/fd/${name}`);
      descriptors.push({ fd: Number(name), target, ...whatItIs(`/proc/${pid}`, name, target) });
    } catch {
      // Closed since the directory was read.
    }
  }
  return descriptors;
}

function whatItIs(proc: string, fd: string, target: string): Omit<Descriptor, 'fd' | 'target'> {
  const info = (key: string) =>
    new RegExp(`^${key}:\\s*(-?\\d+)`, 'm').exec(readFileSync(`${proc}/fdinfo/${fd}`, 'latin1'))?.[1] ?? '-1';
  if (target === '/dev/ptmx' || target === '/dev/pts/ptmx') return { terminal: Number(info('tty-index')) };
  if (target === 'anon_inode:[eventfd]') return { object: `eventfd:${info('eventfd-id')}` };
  if (target === 'anon_inode:[pidfd]' || target.startsWith('pidfd:'))
    return { refersTo: Number(info('Pid')) };
  if (!target.startsWith('/') || /^\/(dev|proc|sys)\//.test(target)) return {};
  const stats = statSync(`${proc}/fd/${fd}`);
  return stats.isFIFO() ? { object: `fifo:${stats.dev}:${stats.ino}` } : {};
}
