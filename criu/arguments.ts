/**
 * CRIU's command line, in one table: which option, since which version, and why. Both agents build their commands from it,
 * so that an image is dumped and restored with matching options.
 */
import { SeamlessError } from '../common/errors.ts';

export interface DumpRequest {
  /** Root of the process tree. */
  root: number;
  /** Where the image files go; it must exist. */
  folder: string;
  /** Values of `--external`, from `External.dumpKey`. */
  externals: readonly string[];
  /** `ProcessTree.leaderless`. */
  leaderless?: boolean;
  /** Paths that the tree watches by inotify, where CRIU can't find that out: in the overlay of a sink. */
  watchedPaths?: readonly string[];
  /** cgroup v2 directory whose processes are frozen already; CRIU hangs on a frozen process without it. */
  freezeCgroup?: string;
  /** Script that CRIU runs at each stage; it must be executable. */
  actionScript?: string;
}

export interface RestoreRequest {
  folder: string;
  /** `ProcessTree.leaderless`; CRIU must then be a session leader itself. */
  leaderless?: boolean;
  /** Descriptors that CRIU inherits from its parent, and which end of the image each of them stands for (`External.restoreKey`). */
  inherit: readonly { fd: number; key: string }[];
  actionScript?: string;
  /** CRIU writes the root's PID there, as the very last thing of a successful restore. */
  pidFile?: string;
  /** Leave the restored processes stopped: none of them runs an instruction. */
  leaveStopped?: boolean;
}

/** trixie's 4.1.1 fails on every TCP socket of kernels from 6.16 on, and the sink's kernel may be one. */
export const MINIMUM_CRIU = '4.2';
export const DUMP_LOG = 'dump.log';
export const RESTORE_LOG = 'restore.log';

/** Options of every dump and restore alike. An option that a version does not know yet is left out below that version. */
const COMMON: readonly { option: string; since: string; why: string }[] = [
  { option: '--tcp-established', since: '1.0', why: 'connections move along' },
  {
    option: '--manage-cgroups=ignore',
    since: '2.0',
    why: 'the default makes cgroups on the sink host and fails on the way back; we write cgroup.procs ourselves',
  },
  {
    option: '--ext-unix-sk',
    since: '1.0',
    why: '/dev/log and the notify socket are datagram sockets of others',
  },
  { option: '--file-locks', since: '1.0', why: 'a daemon may hold a lock on its PID file' },
];

/** Content of a deleted file goes into the image up to this size; CRIU's own limit is 1 MiB. */
export const GHOST_LIMIT_BYTES = 64 * 2 ** 20;

const DUMP_ONLY: typeof COMMON = [
  {
    option: `--ghost-limit=${GHOST_LIMIT_BYTES}`,
    since: '1.5',
    why: 'a daemon keeps a rotated log or a scratch file open after it was deleted',
  },
  {
    option: '--network-lock=skip',
    since: '3.18',
    why: 'packets are held outside; CRIU’s own lock leaves rules behind that kill the connection on its way back',
  },
];

export function dumpArguments(version: string, request: DumpRequest): string[] {
  return [
    'dump',
    ...['--tree', String(request.root), '--images-dir', request.folder, '--log-file', DUMP_LOG, '-v2'],
    ...known(version, [...COMMON, ...DUMP_ONLY]),
    ...(request.leaderless ? ['--shell-job'] : []),
    ...(request.watchedPaths ?? []).flatMap((path) => ['--irmap-scan-path', path]),
    ...(request.freezeCgroup ? ['--freeze-cgroup', request.freezeCgroup] : []),
    ...(request.actionScript ? ['--action-script', request.actionScript] : []),
    ...request.externals.flatMap((key) => ['--external', key]),
  ];
}

export function restoreArguments(version: string, request: RestoreRequest): string[] {
  return [
    'restore',
    ...['--restore-detached', '--images-dir', request.folder, '--log-file', RESTORE_LOG, '-v2'],
    ...known(version, COMMON),
    ...(request.leaderless ? ['--shell-job'] : []),
    ...(request.leaveStopped ? ['--leave-stopped'] : []),
    ...(request.pidFile ? ['--pidfile', request.pidFile] : []),
    ...(request.actionScript ? ['--action-script', request.actionScript] : []),
    ...request.inherit.flatMap(({ fd, key }) => ['--inherit-fd', `fd[${fd}]:${key}`]),
  ];
}

/** Throws `PREREQUISITE_MISSING` for a CRIU that is known not to work. */
export function assertSupported(version: string): void {
  if (!atLeast(version, MINIMUM_CRIU)) {
    throw new SeamlessError(
      'PREREQUISITE_MISSING',
      `Expected CRIU ${MINIMUM_CRIU} or later, got ${version}; install criu from Debian forky`,
    );
  }
}

/** Compares dotted versions number by number: `4.10` is later than `4.2.1`. */
export function atLeast(version: string, minimum: string): boolean {
  const have = numbers(version);
  const want = numbers(minimum);
  const differing = want.findIndex((part, index) => (have[index] ?? 0) !== part);
  return differing < 0 || (have[differing] ?? 0) > (want[differing] ?? 0);
}

function numbers(version: string): number[] {
  return version.split('.').map((part) => Number.parseInt(part, 10) || 0);
}

function known(version: string, table: typeof COMMON): string[] {
  return table.filter(({ since }) => atLeast(version, since)).map(({ option }) => option);
}
