/** Rules about what a process has open. */
import { describe } from './closure.ts';
import { isJournalStream, isSessionFifo } from './externals.ts';
import { isDatagramByPath, socketInode } from './links.ts';
import type { Input } from './refusals.ts';
import type { Finding, RuleName } from './rules.ts';
import type { Descriptor, Process } from './snapshot.ts';
import type { InetSocket, UnixSocket } from './sockets.ts';

const DEVICES = new Set(['null', 'zero', 'full', 'random', 'urandom', 'tty', 'ptmx', 'pts/ptmx', 'log']);

/** One descriptor under one rule. */
interface Place {
  at: string;
  descriptor: Descriptor;
  process: Process;
  input: Input;
}

export function descriptorFindings(descriptor: Descriptor, process: Process, input: Input): Finding[] {
  const { target } = descriptor;
  const at = `${descriptor.fd} → ${target}`;
  const place = { at, descriptor, process, input };
  const finding = (rule: RuleName, reason: string): Finding[] => [{ rule, descriptor: at, reason }];
  const inode = socketInode(target);
  if (inode !== null) return socketFindings(inode, place);
  if (target === 'anon_inode:[io_uring]') return finding('io-uring', 'io_uring can’t be dumped');
  if (/^anon_inode:\[?(perf_event|bpf|fanotify|userfaultfd)/.test(target) || /^\/secretmem\b/.test(target)) {
    return finding('kernel-object', 'CRIU can’t dump this kind');
  }
  if (descriptor.refersTo !== undefined) return pidfdFindings(descriptor.refersTo, place);
  if (isSessionFifo(target)) return [];
  const device = /^\/dev\/(?!shm\/|pts\/\d)(.*)$/.exec(target)?.[1];
  if (device !== undefined && !DEVICES.has(device))
    return finding('device', 'it has a device of the VM open');
  return sharedFindings(place);
}

function socketFindings(inode: number, place: Place): Finding[] {
  const socket = place.input.snapshot.sockets.get(inode);
  // Not bound to anything, so in no table of the kernel; or of a family that CRIU alone knows.
  if (!socket || socket.kind === 'netlink') return [];
  if (socket.kind === 'inet') return inetFindings(socket, place);
  if (socket.kind === 'unix') return unixFindings(inode, socket, place);
  const reason =
    socket.kind === 'raw' || socket.kind === 'packet'
      ? `a ${socket.kind} socket sees all that passes, and a sink’s network is another`
      : `${socket.kind} sockets can’t be dumped`;
  return [{ rule: `${socket.kind}-socket`, descriptor: place.at, reason }];
}

function inetFindings(socket: InetSocket, place: Place): Finding[] {
  const { at, input } = place;
  const where = describe({ protocol: socket.protocol, ...socket.local });
  if (socket.multipath) {
    const reason = `its socket on ${where} is of multipath TCP, which CRIU can’t dump`;
    return [{ rule: 'mptcp-socket', descriptor: at, reason }];
  }
  if (socket.waiting > 0) {
    const what = socket.protocol === 'tcp' ? 'a client has connected' : 'a datagram has come';
    const reason = `${what} to ${where}, and the service has not taken it yet`;
    return [{ rule: 'connection-waiting', descriptor: at, reason }];
  }
  if (socket.state === 'connected' && socket.local.address === input.options.managementAddress) {
    const reason = `its connection with ${socket.remote.address}:${socket.remote.port} is over the management network, which the sink has no part of`;
    return [{ rule: 'management-connection', descriptor: at, reason }];
  }
  // Bound to its interface, too, so a restore would look for that.
  const { address } = socket.local;
  if (address.startsWith('fe80:') && !input.options.linkLocal.includes(address)) {
    const reason = `its socket on ${where} is bound to an interface that the sink has not, like that of the management network`;
    return [{ rule: 'management-listener', descriptor: at, reason }];
  }
  // The other end may be of another tree: both are restored before either runs (checkpoint/traffic.ts).
  const { links, set } = input;
  const outside = links.sharers(place.descriptor, place.process).filter((pid) => !set.members.has(pid));
  return sharedFindings(place, [...outside, ...links.holders(place.descriptor, place.process)]);
}

function unixFindings(inode: number, socket: UnixSocket, place: Place): Finding[] {
  const { snapshot, set, links } = place.input;
  const { sockets } = snapshot;
  if (isJournalStream(socket, sockets)) return [];
  if (socket.waiting > 0) {
    const reason = `a client has connected to ${socket.path || 'its local socket'}, and the service has not accepted it yet`;
    return [{ rule: 'connection-waiting', descriptor: place.at, reason }];
  }
  const unixOutside = (reason: string): Finding => ({ rule: 'unix-outside', descriptor: place.at, reason });
  const nameOf = (pid: number) => `${snapshot.processes.get(pid)?.program}[${pid}]`;
  const client = links.datagramClients(inode).find((pid) => !set.members.has(pid));
  if (client !== undefined) {
    const reason = `${nameOf(client)} stays in the VM and has its socket connected to this one, which won’t be the same after the return`;
    return [unixOutside(reason)];
  }
  if (isDatagramByPath(socket, sockets)) return datagramFindings(socket, place);
  if (socket.pending || (socket.peer !== 0 && !links.isHeld(socket.peer))) {
    return [unixOutside('it has connected, and the other side has not accepted yet')];
  }
  const peer = sockets.get(socket.peer);
  const path = peer?.kind === 'unix' ? peer.path : '';
  return sharedFindings(place).map((finding) => ({
    ...finding,
    rule: finding.rule === 'link-outside' ? 'unix-outside' : finding.rule,
    ...(path ? { reason: `${finding.reason} (at ${path})` } : {}),
  }));
}

/** One that stays in the VM is found again by its path; one of another tree may not be there yet when this one is restored. */
function datagramFindings(socket: UnixSocket, { at, process, input }: Place): Finding[] {
  const { snapshot, set } = input;
  const tree = set.trees.find(({ members }) => members.includes(process.pid))?.members ?? [];
  const server = [...set.members.keys()].find(
    (pid) =>
      !tree.includes(pid) &&
      snapshot.processes.get(pid)?.descriptors.some(({ target }) => target === `socket:[${socket.peer}]`),
  );
  const found = server === undefined ? undefined : snapshot.processes.get(server);
  if (!found) return [];
  const reason = `it sends to ${found.program}[${found.pid}], which belongs to another service that moves too`;
  return [{ rule: 'link-between-trees', descriptor: at, reason }];
}

function pidfdFindings(pid: number, { at, process, input }: Place): Finding[] {
  const tree = input.set.trees.find(({ members }) => members.includes(process.pid))?.members ?? [];
  if (tree.includes(pid) || pid <= 0) return []; // -1: it has ended, which CRIU knows how to restore
  const program = input.snapshot.processes.get(pid)?.program ?? 'a process';
  const reason = `it refers to ${program}[${pid}], which is not of its tree`;
  return [
    { rule: input.set.members.has(pid) ? 'link-between-trees' : 'pidfd-outside', descriptor: at, reason },
  ];
}

/** Everyone who has an end of it must be in the same tree: trees are dumped one by one. */
function sharedFindings({ at, descriptor, process, input }: Place, sharers?: readonly number[]): Finding[] {
  const { snapshot, set, links } = input;
  const tree = set.trees.find(({ members }) => members.includes(process.pid))?.members ?? [];
  const outsider = (sharers ?? links.sharers(descriptor, process)).find((pid) => !tree.includes(pid));
  const other = outsider === undefined ? undefined : snapshot.processes.get(outsider);
  if (!other) return [];
  const isMember = set.members.has(other.pid);
  const where = isMember ? 'belongs to another service' : 'stays in the VM';
  const reason = `it shares this with ${other.program}[${other.pid}], which ${where}`;
  return [{ rule: isMember ? 'link-between-trees' : 'link-outside', descriptor: at, reason }];
}
