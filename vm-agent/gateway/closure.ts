/**
 * Which processes must move together: those that listen on the production network, and whatever they can't be parted from.
 * A pure function over a snapshot.
 *
 *   listener ── children, parent, session ── holders of the same socket or pipe ── unix peers ── both ends of a pty
 */
import type { Listener } from '../../criu/manifest.ts';
import { isInfrastructure } from './infrastructure.ts';
import type { Descriptor, Process, Snapshot } from './snapshot.ts';
import type { InetSocket, Socket } from './sockets.ts';

export interface GatewaySet {
  /** PID → why it belongs to the set. */
  members: Map<number, string>;
  listeners: Listener[];
  /** The process trees, each with its members, the root first. */
  trees: { root: number; members: number[] }[];
}

export interface ClosureOptions {
  /** PID of this agent. */
  agent: number;
  /** Addresses of the production network, without prefix length; a listener on another address serves nobody there. */
  addresses: readonly string[];
}

export function gatewaySet(snapshot: Snapshot, options: ClosureOptions): GatewaySet {
  const members = new Map<number, string>();
  const queue: Process[] = [];
  const join = (pid: number, because: string) => {
    const process = snapshot.processes.get(pid);
    if (!process || members.has(pid) || isInfrastructure(process, options.agent)) return;
    members.set(pid, because);
    queue.push(process);
  };

  const listeners = productionListeners(snapshot, options);
  for (const listener of listeners) join(listener.pid, `listens on ${describe(listener)}`);
  const links = indexLinks(snapshot);
  for (let process = queue.shift(); process; process = queue.shift()) {
    const name = `${process.program}[${process.pid}]`;
    for (const pid of links.children.get(process.pid) ?? []) join(pid, `child of ${name}`);
    join(process.parent, `parent of ${name}`);
    for (const pid of links.sessions.get(process.session) ?? []) join(pid, `in the session of ${name}`);
    for (const descriptor of process.descriptors) {
      for (const key of linkKeys(descriptor, snapshot.sockets)) {
        for (const pid of links.holders.get(key) ?? []) join(pid, `shares ${descriptor.target} with ${name}`);
      }
    }
  }
  return {
    members,
    listeners: listeners.filter(({ pid }) => members.has(pid)),
    trees: treesOf(snapshot, members),
  };
}

/** Listening sockets on the production network, one entry per socket and process that has it open. Infrastructure's are included. */
export function productionListeners(snapshot: Snapshot, options: ClosureOptions): Listener[] {
  const listeners: Listener[] = [];
  for (const process of snapshot.processes.values()) {
    const seen = new Set<number>();
    for (const descriptor of process.descriptors) {
      const inode = socketInode(descriptor.target);
      const socket = inode === null ? undefined : snapshot.sockets.get(inode);
      if (inode === null || seen.has(inode) || socket?.kind !== 'inet') continue;
      seen.add(inode);
      if (!isProductionListener(socket, options.addresses)) continue;
      const { protocol, local } = socket;
      listeners.push({ protocol, ...local, pid: process.pid, program: process.program });
    }
  }
  return listeners;
}

export function socketInode(target: string): number | null {
  const match = /^socket:\[(\d+)\]$/.exec(target);
  return match ? Number(match[1]) : null;
}

/** What two processes can have in common by this descriptor, under one name for both. */
export function linkKeys(descriptor: Descriptor, sockets: ReadonlyMap<number, Socket>): string[] {
  const { target, terminal } = descriptor;
  if (target.startsWith('pipe:')) return [target];
  if (terminal !== undefined) return [`/dev/pts/${terminal}`];
  if (/^\/dev\/pts\/\d+$/.test(target)) return [target];
  const inode = socketInode(target);
  if (inode === null) return [];
  const socket = sockets.get(inode);
  const isPair = socket?.kind === 'unix' && socket.peer !== 0;
  return isPair ? [target, `socket:[${socket.peer}]`] : [target];
}

export function describe({
  protocol,
  address,
  port,
}: Pick<Listener, 'protocol' | 'address' | 'port'>): string {
  return `${protocol} ${address.includes(':') ? `[${address}]` : address}:${port}`;
}

function isProductionListener(socket: InetSocket, addresses: readonly string[]): boolean {
  if (socket.state !== 'listening' || socket.local.port === 0) return false;
  const { address } = socket.local;
  return address === '0.0.0.0' || address === '::' || addresses.includes(address);
}

function indexLinks(snapshot: Snapshot) {
  const children = new Map<number, number[]>();
  const sessions = new Map<number, number[]>();
  for (const process of snapshot.processes.values()) {
    add(children, process.parent, process.pid);
    if (process.session > 1) add(sessions, process.session, process.pid);
  }
  return { children, sessions, holders: indexHolders(snapshot) };
}

/** Who has an end of what can be shared: pipes, sockets, terminals, by the names of `linkKeys`. */
export function indexHolders(snapshot: Snapshot): Map<string, number[]> {
  const holders = new Map<string, number[]>();
  for (const process of snapshot.processes.values()) {
    // A holder is found under its own names only; a peer is reached by asking for the peer's name.
    for (const { target, terminal } of process.descriptors) {
      if (terminal !== undefined) add(holders, `/dev/pts/${terminal}`, process.pid);
      else if (/^(pipe:|socket:|\/dev\/pts\/\d)/.test(target)) add(holders, target, process.pid);
    }
  }
  return holders;
}

/** Paths of unix sockets that these processes have bound; abstract names are none. */
export function boundSockets(processes: readonly Process[], { sockets }: Snapshot): string[] {
  const paths = processes.flatMap(({ descriptors }) =>
    descriptors.flatMap(({ target }) => {
      const inode = socketInode(target);
      const socket = inode === null ? undefined : sockets.get(inode);
      return socket?.kind === 'unix' && socket.path.startsWith('/') ? [socket.path] : [];
    }),
  );
  return [...new Set(paths)];
}

function add<Key>(index: Map<Key, number[]>, key: Key, pid: number): void {
  const list = index.get(key);
  if (list) list.push(pid);
  else index.set(key, [pid]);
}

function treesOf(snapshot: Snapshot, members: ReadonlyMap<number, string>): GatewaySet['trees'] {
  const rootOf = (pid: number): number => {
    const parent = snapshot.processes.get(pid)?.parent ?? 0;
    return members.has(parent) ? rootOf(parent) : pid;
  };
  const trees = new Map<number, number[]>();
  for (const pid of [...members.keys()].sort((a, b) => a - b)) add(trees, rootOf(pid), pid);
  return [...trees].map(([root, pids]) => ({ root, members: [root, ...pids.filter((pid) => pid !== root)] }));
}
