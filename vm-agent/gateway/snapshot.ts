/**
 * One look at the guest: its user processes with their descriptors, and its sockets. Everything that is decided about gateway
 * processes is decided on such a snapshot, by pure functions. Reading is synchronous: under emulation a thread-pool round trip
 * costs more than the call, and nothing else shall run in between.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { readSockets, type Socket } from './sockets.ts';

export interface Descriptor {
  fd: number;
  /** As /proc says it: a path, `socket:[1347]`, `pipe:[8]`, `anon_inode:[eventpoll]`. */
  target: string;
  /** Of a pty master: the number of its slave, `/dev/pts/N`. */
  terminal?: number;
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
  return { processes, sockets };
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

/** The unit of a cgroup: the first service or scope on its path. `-.slice` for what is in none. */
export function unitOf(cgroup: string): string {
  return cgroup.split('/').find((part) => /\.(service|scope|socket|mount|swap)$/.test(part)) ?? '-.slice';
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
      const fd = Number(name);
      const isMaster = target === '/dev/ptmx' || target === '/dev/pts/ptmx';
      descriptors.push(isMaster ? { fd, target, terminal: readTerminal(pid, fd) } : { fd, target });
    } catch {
      // Closed since the directory was read.
    }
  }
  return descriptors;
}

function readTerminal(pid: number, fd: number): number {
  const text = readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'latin1');
  return Number(/^tty-index:\s*(\d+)/m.exec(text)?.[1] ?? -1);
}
