/**
 * Which processes must move together: those that listen on the production network, and whatever they can't be parted from.
 * A pure function over a snapshot; the result does not depend on the order in which anything is read.
 *
 *   listener ── children, parent, session ── holders of the same pipe, socket, terminal, FIFO, eventfd ── other ends: unix peers,
 *   connections within the VM ── shared memory ── who waits for a lock, and who holds it ── what a pidfd refers to
 */
import type { Listener } from '../../criu/manifest.ts';
import { isInfrastructure } from './infrastructure.ts';
import { add, indexLinks, type Links, socketInode } from './links.ts';
import type { Descriptor, Process, Snapshot } from './snapshot.ts';
import type { InetSocket } from './sockets.ts';

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
  /** Names of programs that the operator counts among the gateway processes. */
  programs?: readonly string[];
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
  // The kernel keeps fifteen characters of a name.
  const named = new Set(options.programs?.map((program) => program.slice(0, 15)));
  for (const { pid, program } of snapshot.processes.values())
    if (named.has(program)) join(pid, `is ${program}, which the policy names`);
  const family = indexFamily(snapshot);
  const links = indexLinks(snapshot);
  for (let process = queue.shift(); process; process = queue.shift()) {
    const name = `${process.program}[${process.pid}]`;
    for (const pid of family.children.get(process.pid) ?? []) join(pid, `child of ${name}`);
    join(process.parent, `parent of ${name}`);
    for (const pid of family.sessions.get(process.session) ?? []) join(pid, `in the session of ${name}`);
    for (const { pid, what } of sharing(process, snapshot, links)) join(pid, `${what} ${name}`);
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
    for (const { target } of process.descriptors) {
      const inode = socketInode(target);
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

export function isProductionListener(socket: InetSocket, addresses: readonly string[]): boolean {
  if (socket.state !== 'listening' || socket.local.port === 0) return false;
  const { address } = socket.local;
  return address === '0.0.0.0' || address === '::' || addresses.includes(address);
}

export function describe({
  protocol,
  address,
  port,
}: Pick<Listener, 'protocol' | 'address' | 'port'>): string {
  return `${protocol} ${address.includes(':') ? `[${address}]` : address}:${port}`;
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

/** Everyone whom `process` shares something with, and what, to be followed by its name. */
function sharing(process: Process, snapshot: Snapshot, links: Links): { pid: number; what: string }[] {
  const found: { pid: number; what: string }[] = [];
  for (const descriptor of process.descriptors) {
    const what = `shares ${nameOf(descriptor)} with`;
    for (const pid of links.sharers(descriptor, process)) found.push({ pid, what });
    if (descriptor.refersTo !== undefined) found.push({ pid: descriptor.refersTo, what: 'watched by' });
  }
  for (const mapping of snapshot.mappings(process.pid)) {
    const what = `shares the memory ${mapping.path} with`;
    for (const pid of links.memorySharers(mapping, process)) found.push({ pid, what });
  }
  for (const pid of links.lockSharers(process)) found.push({ pid, what: 'holds or waits for a lock of' });
  return found;
}

function nameOf({ target, terminal, object }: Descriptor): string {
  if (terminal !== undefined) return `/dev/pts/${terminal}`;
  return object?.startsWith('eventfd:') ? 'an eventfd' : target;
}

function indexFamily({ processes }: Snapshot) {
  const children = new Map<number, number[]>();
  const sessions = new Map<number, number[]>();
  for (const process of processes.values()) {
    add(children, process.parent, process.pid);
    if (process.session > 1) add(sessions, process.session, process.pid);
  }
  return { children, sessions };
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
