/** Every file that gateway processes hold, with what the sink needs to put a dummy or the template's own file in its place. */
import { lstatSync, readlinkSync, type Stats } from 'node:fs';
import { dirname } from 'node:path';
import type { HeldFile } from '../../criu/manifest.ts';
import { socketInode } from '../gateway/links.ts';
import type { Mapping } from '../gateway/mappings.ts';
import type { Process } from '../gateway/snapshot.ts';
import type { Socket, UnixSocket } from '../gateway/sockets.ts';

/** The kernel's own trees: the sink has them of its own. */
const KERNEL_TREES = /^\/(proc|sys|dev\/pts|dev\/shm|dev\/ptmx)(\/|$)/;

export interface Holder {
  process: Process;
  mappings: readonly Mapping[];
  /** It sees a tree of its own (PrivateTmp=). */
  hasOwnMounts: boolean;
  /** What it watches by inotify. */
  watchedPaths?: readonly string[];
}

/**
 * Descriptors, mappings, watched paths, working and root directory, executable, and the unix sockets that `holders` write to; each path
 * once, sorted. Of a socket that they have bound themselves, and of a file that is deleted, only the folder: CRIU makes them again.
 */
export function heldFiles(holders: readonly Holder[], sockets: ReadonlyMap<number, Socket>): HeldFile[] {
  const files = new Map<string, HeldFile>();
  const add = (holder: Holder, path: string, executable: boolean) => {
    if (!path.startsWith('/') || path.endsWith(' (deleted)') || KERNEL_TREES.test(path)) return;
    const known = files.get(path);
    if (known) {
      known.executable ||= executable;
      return;
    }
    const root = holder.hasOwnMounts ? `/proc/${holder.process.pid}/root` : '';
    const stats = lstatSync(root + path, { throwIfNoEntry: false });
    if (stats) files.set(path, describe(path, stats, executable));
  };
  // CRIU makes a deleted file again beside where it was; without that folder, files of several trees would meet in a common one.
  const addFolder = (holder: Holder, path: string) => {
    if (!/^\/(memfd:|SYSV|\[aio\]|dev\/)/.test(path)) add(holder, dirname(path), false);
  };
  for (const holder of holders) {
    const { pid, executable, descriptors } = holder.process;
    add(holder, executable, true);
    add(holder, readlinkSync(`/proc/${pid}/cwd`), false);
    add(holder, readlinkSync(`/proc/${pid}/root`), false);
    for (const { path, deleted, executable: runs } of holder.mappings) {
      if (!deleted) add(holder, path, runs);
      else addFolder(holder, path);
    }
    for (const path of holder.watchedPaths ?? []) add(holder, path, false);
    for (const { target } of descriptors) {
      const socket = unixSocket(target, sockets);
      const peer = socket?.type === 'dgram' ? unixPath(sockets.get(socket.peer)) : null;
      if (target.endsWith(' (deleted)')) addFolder(holder, target);
      else if (!socket) add(holder, target, false);
      if (socket?.path) add(holder, dirname(socket.path), false);
      if (peer) add(holder, peer, false);
    }
  }
  return [...files.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

function unixSocket(target: string, sockets: ReadonlyMap<number, Socket>): UnixSocket | null {
  const inode = socketInode(target);
  const socket = inode === null ? undefined : sockets.get(inode);
  return socket?.kind === 'unix' ? socket : null;
}

function unixPath(socket: Socket | undefined): string | null {
  return socket?.kind === 'unix' ? socket.path : null;
}

export function describe(path: string, stats: Stats, executable: boolean): HeldFile {
  return {
    path,
    type: typeOf(stats),
    mode: stats.mode & 0o7777,
    uid: stats.uid,
    gid: stats.gid,
    size: stats.size,
    mtime: Math.floor(stats.mtimeMs / 1000),
    executable,
  };
}

function typeOf(stats: Stats): HeldFile['type'] {
  if (stats.isDirectory()) return 'directory';
  if (stats.isFIFO()) return 'fifo';
  if (stats.isSocket()) return 'socket';
  if (stats.isSymbolicLink()) return 'symlink';
  return stats.isCharacterDevice() ? 'char' : 'file';
}
