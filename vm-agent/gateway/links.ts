/**
 * What ties two processes together so that they can't be parted: one name for each object, the same for everyone who has it.
 * Besides these there are parents, children and sessions (closure.ts).
 */
import type { Mapping } from './mappings.ts';
import type { Descriptor, Process, Snapshot } from './snapshot.ts';
import type { InetSocket, Socket, UnixSocket } from './sockets.ts';

export interface Links {
  /** Everyone else that has an end of what `process` has by this descriptor: the same, or the other one. */
  sharers(descriptor: Descriptor, process: Process): number[];
  /** Everyone else that has the very same open. */
  holders(descriptor: Descriptor, process: Process): number[];
  /** Everyone else that shares this memory, if any of them all can write to it. */
  memorySharers(mapping: Mapping, process: Process): number[];
  /** Who holds or waits for a lock that `process` holds or waits for, while anybody waits. */
  lockSharers(process: Process): number[];
  /** Clients whose connected datagram socket leads to this one, which has a path. */
  datagramClients(inode: number): number[];
  /** True when some process has the socket open. */
  isHeld(inode: number): boolean;
}

export function indexLinks(snapshot: Snapshot): Links {
  const { processes, sockets } = snapshot;
  const holders = indexHolders(snapshot);
  const mirrors = indexMirrors(sockets);
  const clients = indexDatagramClients(sockets);
  let memory: Map<string, { pids: number[]; isWritten: boolean }> | null = null;
  const namesOf = (descriptor: Descriptor) => linkNames(descriptor, sockets, mirrors);
  const others = (pids: readonly number[], process: Process) => pids.filter((pid) => pid !== process.pid);
  return {
    sharers: (descriptor, process) =>
      others(
        namesOf(descriptor).flatMap((name) => holders.get(name) ?? []),
        process,
      ),
    holders: (descriptor, process) => others(holders.get(ownName(descriptor) ?? '') ?? [], process),
    memorySharers({ identity, shared }, process) {
      if (!shared) return [];
      memory ??= indexMemory(snapshot);
      const found = memory.get(identity);
      return found?.isWritten ? others(found.pids, process) : [];
    },
    lockSharers: (process) =>
      snapshot.locks
        .filter(({ pids }) => pids.includes(process.pid))
        .flatMap(({ pids }) => others(pids, process))
        .filter((pid) => processes.has(pid)),
    datagramClients: (inode) =>
      (clients.get(inode) ?? []).flatMap((client) => holders.get(`socket:[${client}]`) ?? []),
    isHeld: (inode) => holders.has(`socket:[${inode}]`),
  };
}

export function socketInode(target: string): number | null {
  const match = /^socket:\[(\d+)\]$/.exec(target);
  return match ? Number(match[1]) : null;
}

/** The socket behind a descriptor, `undefined` when it is none, or of a kind that needs no look. */
export function socketOf({ target }: Descriptor, sockets: ReadonlyMap<number, Socket>): Socket | undefined {
  const inode = socketInode(target);
  return inode === null ? undefined : sockets.get(inode);
}

/** True for a datagram socket with a peer that has a path: CRIU connects it again by that path (`--ext-unix-sk`), on either side. */
export function isDatagramByPath(socket: UnixSocket, sockets: ReadonlyMap<number, Socket>): boolean {
  const peer = sockets.get(socket.peer);
  return socket.type === 'dgram' && peer?.kind === 'unix' && peer.path.startsWith('/');
}

/** What others can have in common by this descriptor: the thing itself, and the other end of it. */
function linkNames(
  descriptor: Descriptor,
  sockets: ReadonlyMap<number, Socket>,
  mirrors: ReadonlyMap<string, number>,
): string[] {
  const own = ownName(descriptor);
  if (own === null) return [];
  const socket = socketOf(descriptor, sockets);
  if (socket?.kind === 'inet' && socket.state === 'connected') {
    const mirror = mirrors.get(endpoints(socket.protocol, socket.remote, socket.local));
    return mirror === undefined ? [own] : [own, `socket:[${mirror}]`];
  }
  const hasEnd = socket?.kind === 'unix' && socket.peer !== 0 && !isDatagramByPath(socket, sockets);
  return hasEnd ? [own, `socket:[${socket.peer}]`] : [own];
}

function ownName({ target, terminal, object }: Descriptor): string | null {
  if (terminal !== undefined) return `/dev/pts/${terminal}`;
  if (object !== undefined) return object;
  return /^(pipe:|socket:|\/dev\/pts\/\d)/.test(target) ? target : null;
}

/** A holder is found under its own name only; the other end is reached by asking for that one's name. */
function indexHolders({ processes }: Snapshot): Map<string, number[]> {
  const holders = new Map<string, number[]>();
  for (const process of processes.values()) {
    for (const descriptor of process.descriptors) {
      const name = ownName(descriptor);
      if (name !== null) add(holders, name, process.pid);
    }
  }
  return holders;
}

/** Connected sockets by their ends: a connection within the VM is in here from both sides. */
function indexMirrors(sockets: ReadonlyMap<number, Socket>): Map<string, number> {
  const mirrors = new Map<string, number>();
  for (const [inode, socket] of sockets) {
    if (socket.kind !== 'inet' || socket.state !== 'connected') continue;
    mirrors.set(endpoints(socket.protocol, socket.local, socket.remote), inode);
  }
  return mirrors;
}

function endpoints(protocol: string, from: InetSocket['local'], to: InetSocket['remote']): string {
  return `${protocol} ${from.address} ${from.port} ${to.address} ${to.port}`;
}

function indexDatagramClients(sockets: ReadonlyMap<number, Socket>): Map<number, number[]> {
  const clients = new Map<number, number[]>();
  for (const [inode, socket] of sockets) {
    if (socket.kind === 'unix' && isDatagramByPath(socket, sockets)) add(clients, socket.peer, inode);
  }
  return clients;
}

function indexMemory(snapshot: Snapshot): Map<string, { pids: number[]; isWritten: boolean }> {
  const memory = new Map<string, { pids: number[]; isWritten: boolean }>();
  for (const pid of snapshot.processes.keys()) {
    for (const { identity, shared, writable } of snapshot.mappings(pid)) {
      if (!shared) continue;
      const known = memory.get(identity) ?? { pids: [], isWritten: false };
      known.pids.push(pid);
      known.isWritten ||= writable;
      memory.set(identity, known);
    }
  }
  return memory;
}

export function add<Key, Value>(index: Map<Key, Value[]>, key: Key, value: Value): void {
  const list = index.get(key);
  if (list) list.push(value);
  else index.set(key, [value]);
}
