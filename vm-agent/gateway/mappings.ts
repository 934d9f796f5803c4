/** What a process has mapped, where it is and what it waits in: read for gateway processes only, since it is the dear part of a scan. */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';

export interface Mapping {
  /** Without ` (deleted)`. */
  path: string;
  deleted: boolean;
  shared: boolean;
  writable: boolean;
  executable: boolean;
  /** Device and inode: the same for every process that maps the same thing. */
  identity: string;
}

export type NamespaceKind = 'cgroup' | 'ipc' | 'mnt' | 'net' | 'pid' | 'user' | 'uts' | 'time';
const NAMESPACES: readonly NamespaceKind[] = ['cgroup', 'ipc', 'mnt', 'net', 'pid', 'user', 'uts', 'time'];

export interface ProcessDetails {
  /** Paths of mapped files that are not the template's: written or put there after the template was made. */
  changedFiles: string[];
  /** Those in which it is not with PID 1, and what they are. */
  ownNamespaces: NamespaceKind[];
  namespaceNames: Partial<Record<NamespaceKind, string>>;
  /** Resident memory that is in no file, and so goes into the image. */
  anonymousBytes: number;
  /** Who traces it, 0 if nobody. */
  tracer: number;
  /** System calls that its threads are in, with their first two arguments; x86-64 only. */
  calls: { number: number; args: [number, number] }[];
  /** Files that are deleted and still open, with their sizes. */
  deletedFiles: { fd: number; path: string; bytes: number }[];
  /** Descriptors of file systems that only look like files: message queues. */
  messageQueues: { fd: number; path: string }[];
}

/**
 * @param mappings of `pid`.
 * @param templateMadeAt when the template's tree was finished, in milliseconds; `null` when the VM is from none.
 */
export function readDetails(
  pid: number,
  mappings: readonly Mapping[],
  templateMadeAt: number | null,
): ProcessDetails {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  const namespaceNames = ownNamespaces(pid);
  return {
    changedFiles:
      templateMadeAt === null
        ? []
        : mappings.filter((mapping) => isChanged(mapping, pid, templateMadeAt)).map(({ path }) => path),
    ownNamespaces: Object.keys(namespaceNames) as NamespaceKind[],
    namespaceNames,
    anonymousBytes: anonymousBytes(status),
    tracer: Number(/^TracerPid:\s*(\d+)/m.exec(status)?.[1] ?? 0),
    calls: process.arch === 'x64' ? readCalls(pid) : [],
    ...readOddFiles(pid),
  };
}

export function readMappings(pid: number): Mapping[] {
  return parseMappings(readFileSync(`/proc/${pid}/maps`, 'utf8'));
}

/** /proc/PID/maps, one entry per file or shared object; private anonymous memory is left out. */
export function parseMappings(text: string): Mapping[] {
  const mappings = new Map<string, Mapping>();
  for (const line of text.split('\n')) {
    const match = /^\S+ (.)(.)(.)(.) \S+ (\S+) (\d+)\s+(\/.*)$/.exec(line);
    if (!match) continue;
    const [, , write, execute, share, device, inode, name = ''] = match;
    const deleted = name.endsWith(' (deleted)');
    const path = deleted ? name.slice(0, -' (deleted)'.length) : name;
    const identity = `${device}:${inode}`;
    const known = mappings.get(identity);
    mappings.set(identity, {
      path,
      deleted,
      identity,
      shared: share === 's' || known?.shared === true,
      writable: (write === 'w' && share === 's') || known?.writable === true,
      executable: execute === 'x' || known?.executable === true,
    });
  }
  return [...mappings.values()];
}

/**
 * The kernel sets a file's change time by the clock and lets nobody choose it: whatever was written, replaced or installed in the VM has
 * one after the template's.
 */
function isChanged({ path, deleted }: Mapping, pid: number, templateMadeAt: number): boolean {
  if (deleted || path.startsWith('/dev/') || path.startsWith('/[aio]')) return false;
  const stats = statSync(`/proc/${pid}/root${path}`, { throwIfNoEntry: false });
  return stats !== undefined && stats.ctimeMs > templateMadeAt;
}

function anonymousBytes(status: string): number {
  const kib = (key: string) => Number(new RegExp(`^${key}:\\s*(\\d+)`, 'm').exec(status)?.[1] ?? 0);
  return (kib('RssAnon') + kib('RssShmem') + kib('VmSwap')) * 1024;
}

function ownNamespaces(pid: number): Partial<Record<NamespaceKind, string>> {
  const names: Partial<Record<NamespaceKind, string>> = {};
  for (const kind of NAMESPACES) {
    const name = readlinkSync(`/proc/${pid}/ns/${kind}`);
    if (name !== readlinkSync(`/proc/1/ns/${kind}`)) names[kind] = name;
  }
  return names;
}

/** /proc/PID/task/TID/syscall: `NUMBER ARGUMENT… SP PC`, or `running`. */
function readCalls(pid: number): ProcessDetails['calls'] {
  return readdirSync(`/proc/${pid}/task`).flatMap((thread) => {
    try {
      const [number = '', first, second] = readFileSync(
        `/proc/${pid}/task/${thread}/syscall`,
        'latin1',
      ).split(' ');
      return /^\d+$/.test(number)
        ? [{ number: Number(number), args: [Number(first), Number(second)] as [number, number] }]
        : [];
    } catch {
      return []; // the thread has ended, or the kernel doesn't tell
    }
  });
}

function readOddFiles(pid: number): Pick<ProcessDetails, 'deletedFiles' | 'messageQueues'> {
  const deletedFiles: ProcessDetails['deletedFiles'] = [];
  const messageQueues: ProcessDetails['messageQueues'] = [];
  for (const name of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const link = `/proc/${pid}/fd/${name}`;
      const target = readlinkSync(link);
      if (target.endsWith(' (deleted)') && target.startsWith('/') && !target.startsWith('/memfd:')) {
        const stats = statSync(link);
        // What it takes on the disk: CRIU leaves the holes of a sparse file out.
        if (stats.isFile())
          deletedFiles.push({ fd: Number(name), path: target.slice(0, -10), bytes: stats.blocks * 512 });
      } else if (isMessageQueue(pid, name, target)) messageQueues.push({ fd: Number(name), path: target });
    } catch {
      // Closed meanwhile.
    }
  }
  return { deletedFiles, messageQueues };
}

/** A message queue shows as a path without a folder; its fdinfo says what it is when read as a file. */
function isMessageQueue(pid: number, fd: string, target: string): boolean {
  if (!/^\/[^/]+$/.test(target) || statSync(`/proc/${pid}/root${target}`, { throwIfNoEntry: false }))
    return false;
  return readFileSync(`/proc/${pid}/fd/${fd}`, 'latin1').startsWith('QSIZE:');
}
