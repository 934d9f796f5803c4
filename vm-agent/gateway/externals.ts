/**
 * Ends that gateway processes hold and that stay in the VM: the streams to journald, and the FIFO by which logind knows that
 * a session lives. CRIU is told to leave them out; each side puts a fresh end in their place.
 */
import { readdirSync, readFileSync, readlinkSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import type { External } from '../../criu/manifest.ts';
import { socketInode } from './links.ts';
import type { Process, Snapshot } from './snapshot.ts';
import type { Socket, UnixSocket } from './sockets.ts';

export const JOURNAL_STDOUT = '/run/systemd/journal/stdout';
const JOURNAL_STREAMS = '/run/systemd/journal/streams';
/** Where a restore makes a FIFO when logind has removed the session's own. */
export const ORPHAN_FIFOS = '/run/seamless/sessions';
const PLAIN_DEVICE = /^\/dev\/(null|zero|full|u?random)$/;
const SESSION_FIFO = /^(?:\/run\/systemd|\/run\/seamless)\/sessions\/([^/]+)\.ref$/;

/** True for a stream whose other end is journald's. */
export function isJournalStream(socket: UnixSocket, sockets: ReadonlyMap<number, Socket>): boolean {
  const peer = sockets.get(socket.peer);
  return socket.type === 'stream' && peer?.kind === 'unix' && peer.path === JOURNAL_STDOUT;
}

export function isSessionFifo(target: string): boolean {
  return SESSION_FIFO.test(target.replace(/ \(deleted\)$/, ''));
}

/** The external ends of a tree's processes, each once, with the places where it is open. */
export function externalsOf(members: readonly Process[], snapshot: Snapshot): External[] {
  const externals = new Map<string, External>();
  for (const { pid, unit, descriptors } of members) {
    for (const { fd, target } of descriptors) {
      const external = journalStream(target, unit, snapshot) ?? sessionFifo(pid, fd, target);
      if (!external) continue;
      const known = externals.get(external.dumpKey) ?? external;
      known.descriptors.push({ pid, fd });
      externals.set(external.dumpKey, known);
    }
  }
  return [...externals.values()];
}

function journalStream(target: string, unit: string, snapshot: Snapshot): External | null {
  const inode = socketInode(target);
  const socket = inode === null ? undefined : snapshot.sockets.get(inode);
  if (socket?.kind !== 'unix' || !isJournalStream(socket, snapshot.sockets)) return null;
  const stream = readJournalStream(socket.peer);
  return {
    kind: 'journal-stream',
    owner: stream.unit || unit,
    dumpKey: `unix[${inode}]`,
    restoreKey: `socket:[${inode}]`,
    descriptors: [],
    journal: stream,
  };
}

/**
 * Devices that systemd opened before it gave the unit a /dev of its own (PrivateDevices=): no mount of the process has them any more, so
 * that CRIU finds no path to them.
 */
export function devicesOutside(members: readonly Process[]): External[] {
  const externals = new Map<string, External>();
  for (const { pid, descriptors } of members) {
    const mounts = readFileSync(`/proc/${pid}/mountinfo`, 'latin1');
    for (const { fd, target } of descriptors) {
      if (
        !PLAIN_DEVICE.test(target) ||
        mounts.split('\n').some((line) => line.startsWith(`${mountOf(pid, fd)} `))
      )
        continue;
      const key = fileKey(pid, fd);
      const known = externals.get(key) ?? {
        kind: 'device',
        owner: target,
        dumpKey: key,
        restoreKey: key,
        descriptors: [],
      };
      known.descriptors.push({ pid, fd });
      externals.set(key, known);
    }
  }
  return [...externals.values()];
}

/** How journald was told to label the stream; it keeps that in a file named after its own end, whose name we find by its inode. */
function readJournalStream(peer: number): NonNullable<External['journal']> {
  const name = readdirSync(JOURNAL_STREAMS).find((file) => file.endsWith(`:${peer}`));
  const text = name ? readFileSync(`${JOURNAL_STREAMS}/${name}`, 'utf8') : '';
  const value = (key: string) => new RegExp(`^${key}=(.*)$`, 'm').exec(text)?.[1] ?? '';
  return {
    identifier: value('IDENTIFIER'),
    unit: value('UNIT'),
    priority: Number(value('PRIORITY') || 30),
    levelPrefix: value('LEVEL_PREFIX') !== '0',
  };
}

function sessionFifo(pid: number, fd: number, target: string): External | null {
  const session = SESSION_FIFO.exec(target)?.[1];
  if (session === undefined) return null;
  const key = fileKey(pid, fd);
  return { kind: 'session-fifo', owner: session, dumpKey: key, restoreKey: key, descriptors: [] };
}

/** CRIU's name of an open file is its mount and inode, in hexadecimal. */
function fileKey(pid: number, fd: number): string {
  const file = statSync(`/proc/${pid}/fd/${fd}`);
  const mount = mountForCriu(pid, mountOf(pid, fd), readlinkSync(`/proc/${pid}/fd/${fd}`), file);
  return `file[${mount.toString(16)}:${file.ino.toString(16)}]`;
}

/**
 * A file that was opened in another mount namespace (logind's, of a session's FIFO) is on a mount that the process does not have. CRIU takes that for
 * a fault of old kernels' overlays, and the file for one of the overlay in which its path leads to it (lookup_overlayfs in criu/mount.c).
 */
function mountForCriu(pid: number, mount: number, path: string, file: Stats): number {
  const mounts = readFileSync(`/proc/${pid}/mountinfo`, 'latin1').trimEnd().split('\n');
  if (mounts.some((line) => line.startsWith(`${mount} `))) return mount;
  const overlays = mounts.filter((line) => line.includes(' - overlay '));
  const found = overlays.findLast((line) => {
    const [, , , , mountPoint = '/'] = line.split(' ');
    const there = statSync(join(`/proc/${pid}/root`, mountPoint, path), { throwIfNoEntry: false });
    return there?.ino === file.ino && there.dev === file.dev;
  });
  return found ? Number.parseInt(found, 10) : mount;
}

function mountOf(pid: number, fd: number): number {
  return Number(/^mnt_id:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'latin1'))?.[1]);
}
