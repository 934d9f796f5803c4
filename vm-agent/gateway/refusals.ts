/**
 * Why a gateway set can't be moved: each rule looks at the set and names the process, the descriptor, the reason and the remedy.
 * What no rule foresees makes the dump itself fail, which leaves everything as it was.
 */
import type { Refusal } from '../api.ts';
import type { UnitFacts } from '../systemd/unit.ts';
import {
  describe,
  type GatewaySet,
  indexHolders,
  linkKeys,
  productionListeners,
  socketInode,
} from './closure.ts';
import { isJournalStream, isSessionFifo, KNOWN_DATAGRAM_PEERS } from './externals.ts';
import type { Mapping, NamespaceKind, ProcessDetails } from './mappings.ts';
import type { Descriptor, Process, Snapshot } from './snapshot.ts';
import type { UnixSocket } from './sockets.ts';

export interface RefusalInput {
  snapshot: Snapshot;
  set: GatewaySet;
  /** Of every member. */
  details: ReadonlyMap<number, ProcessDetails>;
  units: ReadonlyMap<string, UnitFacts>;
  availableBytes: number;
  options: { agent: number; addresses: readonly string[]; managementAddress: string };
}

type Finding = Omit<Refusal, 'pid' | 'program'>;
type Input = RefusalInput & { holders: ReadonlyMap<string, number[]> };

/** Of the available memory; the rest is for CRIU and what else goes on. */
const IMAGE_SHARE = 0.7;
const DEVICES = new Set(['null', 'zero', 'full', 'random', 'urandom', 'tty', 'ptmx', 'pts/ptmx', 'log']);
/** CRIU itself puts what it restores into a time namespace, so that its monotonic clock goes on. */
const MOVABLE_NAMESPACES = new Set<NamespaceKind>(['mnt', 'uts', 'time']);

/** All reasons, an empty list when the set can be moved. */
export function refusalsOf(given: RefusalInput): Refusal[] {
  const input = { ...given, holders: indexHolders(given.snapshot) };
  const refusals = [...socketActivation(input), ...imageSize(input)];
  for (const pid of input.set.members.keys()) {
    const process = input.snapshot.processes.get(pid);
    const details = input.details.get(pid);
    if (!process || !details) continue;
    const findings = [
      ...placeOf(process, input),
      ...process.descriptors.flatMap((descriptor) => descriptorOf(descriptor, process, input)),
      ...details.mappings.flatMap((mapping) => mappingOf(mapping)),
      ...details.ownNamespaces.filter((kind) => !MOVABLE_NAMESPACES.has(kind)).map(namespaceOf),
    ];
    for (const finding of findings) refusals.push({ ...finding, pid, program: process.program });
  }
  return refusals;
}

function socketActivation({ snapshot, options }: RefusalInput): Refusal[] {
  return productionListeners(snapshot, options)
    .filter(({ pid }) => pid === 1)
    .map((listener) => ({
      rule: 'socket-activation',
      pid: 1,
      program: 'systemd',
      reason: `systemd itself listens on ${describe(listener)} for a socket unit, and systemd can’t move`,
      remedy:
        'Disable the socket unit and enable the service itself: `systemctl disable --now NAME.socket; systemctl enable --now NAME.service`.',
    }));
}

/** The image lies in the guest's memory until it is sent. */
function imageSize({ set, snapshot, details, availableBytes }: Input): Refusal[] {
  const sizes = [...set.members.keys()].map((pid) => ({ pid, bytes: details.get(pid)?.anonymousBytes ?? 0 }));
  const bytes = sizes.reduce((sum, size) => sum + size.bytes, 0);
  const largest = sizes.sort((a, b) => b.bytes - a.bytes)[0];
  if (!largest || bytes <= availableBytes * IMAGE_SHARE) return [];
  return [
    {
      rule: 'memory',
      pid: largest.pid,
      program: snapshot.processes.get(largest.pid)?.program ?? '',
      reason: `the image of ${mebibytes(bytes)} MiB does not fit into the ${mebibytes(availableBytes)} MiB of memory that the VM has free`,
      remedy: 'Give the VM more memory, or the service less.',
    },
  ];
}

const mebibytes = (bytes: number): number => Math.round(bytes / 2 ** 20);

function placeOf(process: Process, { snapshot, set, units }: RefusalInput): Finding[] {
  const findings: Finding[] = [];
  if (/^user@\d+\.service$/.test(process.unit)) {
    findings.push({
      rule: 'user-service',
      reason: `it was started by the per-user manager ${process.unit}, which stays in the VM`,
      remedy: 'Run it as a system service.',
    });
  }
  const leader = snapshot.processes.get(process.session);
  if (leader && !set.members.has(leader.pid)) {
    findings.push({
      rule: 'session-outside',
      reason: `its session belongs to ${leader.program}[${leader.pid}], which stays in the VM`,
      remedy: 'Start it as a service, or with setsid.',
    });
  }
  const facts = units.get(process.unit);
  if (facts?.mainPid === process.pid && facts.notifyAccess === 'none') {
    findings.push({
      rule: 'notify-access',
      reason: `${process.unit} takes no messages, so systemd would restart it once its main process has moved`,
      remedy: `Add a drop-in with [Service] NotifyAccess=all to ${process.unit}, then \`systemctl daemon-reload\`.`,
    });
  }
  return findings;
}

function descriptorOf(descriptor: Descriptor, process: Process, input: Input): Finding[] {
  const { target } = descriptor;
  const at = `${descriptor.fd} → ${target}`;
  const inode = socketInode(target);
  if (inode !== null) return socketOf(inode, at, descriptor, process, input);
  if (target.startsWith('pipe:') || /^\/dev\/pts\//.test(target))
    return sharedOf(at, descriptor, process, input);
  if (target === 'anon_inode:[io_uring]') {
    return [
      {
        rule: 'io-uring',
        descriptor: at,
        reason: 'io_uring can’t be dumped',
        remedy: 'Configure it to use epoll.',
      },
    ];
  }
  if (target.startsWith('/dev/') && !target.startsWith('/dev/shm/') && !DEVICES.has(target.slice(5))) {
    return [
      {
        rule: 'device',
        descriptor: at,
        reason: 'it has a device of the VM open',
        remedy: 'End it before parking, or run it without the device.',
      },
    ];
  }
  return isSessionFifo(target) || !/^anon_inode:\[?(perf_event|bpf|fanotify|userfaultfd)/.test(target)
    ? []
    : [
        {
          rule: 'kernel-object',
          descriptor: at,
          reason: 'CRIU can’t dump this kind',
          remedy: 'End it before parking.',
        },
      ];
}

function socketOf(
  inode: number,
  at: string,
  descriptor: Descriptor,
  process: Process,
  input: Input,
): Finding[] {
  const socket = input.snapshot.sockets.get(inode);
  if (!socket) return []; // unbound, or netlink: CRIU knows better than we do
  if (socket.kind === 'inet') {
    if (socket.state !== 'connected' || socket.local.address !== input.options.managementAddress) {
      return sharedOf(at, descriptor, process, input);
    }
    return [
      {
        rule: 'management-connection',
        descriptor: at,
        reason: `its connection with ${socket.remote.address}:${socket.remote.port} is over the management network, which the sink has no part of`,
        remedy: 'Close that connection, or make it over the production network.',
      },
    ];
  }
  if (socket.kind === 'unix') return unixOf(socket, at, descriptor, process, input);
  return [
    {
      rule: `${socket.kind}-socket`,
      descriptor: at,
      reason: `${socket.kind} sockets can’t be dumped`,
      remedy: 'End the process before parking.',
    },
  ];
}

function unixOf(
  socket: UnixSocket,
  at: string,
  descriptor: Descriptor,
  process: Process,
  input: Input,
): Finding[] {
  const { sockets } = input.snapshot;
  if (isJournalStream(socket, sockets)) return [];
  const peer = sockets.get(socket.peer);
  const peerPath = peer?.kind === 'unix' ? peer.path : '';
  if (socket.type === 'dgram' && KNOWN_DATAGRAM_PEERS.includes(peerPath)) return [];
  return sharedOf(at, descriptor, process, input).map((finding) => ({
    ...finding,
    rule: finding.rule === 'link-outside' ? 'unix-outside' : finding.rule,
    ...(peerPath ? { reason: `${finding.reason} (at ${peerPath})` } : {}),
  }));
}

/** Everyone who has an end of it must be in the same tree: trees are dumped one by one. */
function sharedOf(
  at: string,
  descriptor: Descriptor,
  process: Process,
  { snapshot, set, holders }: Input,
): Finding[] {
  const tree = set.trees.find(({ members }) => members.includes(process.pid));
  const sharers = linkKeys(descriptor, snapshot.sockets).flatMap((key) => holders.get(key) ?? []);
  const outsider = sharers.find((pid) => pid !== process.pid && !tree?.members.includes(pid));
  const other = outsider === undefined ? undefined : snapshot.processes.get(outsider);
  if (!other) return [];
  const isMember = set.members.has(other.pid);
  return [
    {
      rule: isMember ? 'link-between-trees' : 'link-outside',
      descriptor: at,
      reason: `it shares this with ${other.program}[${other.pid}], which ${isMember ? 'belongs to another service' : 'stays in the VM'}`,
      remedy:
        'Reconfigure one of the two so that they don’t depend on each other, or end one before parking.',
    },
  ];
}

function mappingOf(mapping: Mapping): Finding[] {
  const { path, deleted, shared, writable, executable } = mapping;
  if (path.startsWith('/SYSV')) {
    return [
      {
        rule: 'system-v-memory',
        descriptor: path,
        reason: 'System V shared memory can’t be moved',
        remedy: 'Configure it to use mmap.',
      },
    ];
  }
  const isAnonymous = path === '/dev/zero' || path.startsWith('/memfd:') || path.startsWith('/[aio]');
  if (executable && deleted && !isAnonymous) {
    return [
      {
        rule: 'deleted-executable',
        descriptor: path,
        reason: 'it runs code from a file that has been replaced since',
        remedy: 'Restart the service, so that it runs what is installed.',
      },
    ];
  }
  if (shared && writable && !isAnonymous) {
    return [
      {
        rule: 'shared-file-mapping',
        descriptor: path,
        reason: 'it can write to a mapped file, which nobody could observe in the sink',
        remedy: 'Configure it not to map its data file, or to map it privately.',
      },
    ];
  }
  return [];
}

function namespaceOf(kind: NamespaceKind): Finding {
  return {
    rule: 'namespace',
    descriptor: kind,
    reason: `it is in a ${kind} namespace of its own`,
    remedy: 'Turn off the option of its unit or configuration that isolates it.',
  };
}
