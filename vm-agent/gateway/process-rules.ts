/** Rules about a process as such: where it is, who is over it, what it waits in. */
import { socketOf } from './links.ts';
import type { NamespaceKind, ProcessDetails } from './mappings.ts';
import type { Input } from './refusals.ts';
import type { Finding } from './rules.ts';
import type { Process } from './snapshot.ts';

/** CRIU itself puts what it restores into a time namespace, so that its monotonic clock goes on. */
const MOVABLE_NAMESPACES = new Set<NamespaceKind>(['mnt', 'uts', 'time']);

/** x86-64 numbers of calls that wait in what a sink has not: there they would be made anew at once, and wake the VM (docs/activity.md). */
const WAITS: Readonly<Record<number, string>> = {
  65: 'semop',
  220: 'semtimedop',
  69: 'msgsnd',
  70: 'msgrcv',
  242: 'mq_timedsend',
  243: 'mq_timedreceive',
  73: 'flock',
  208: 'io_getevents',
  333: 'io_pgetevents',
  257: 'openat',
  2: 'open',
};
const FCNTL = 72;
/** F_SETLKW, F_OFD_SETLKW. */
const LOCK_AND_WAIT = new Set([7, 38]);
const READS: Readonly<Record<number, string>> = {
  0: 'read',
  19: 'readv',
  45: 'recvfrom',
  47: 'recvmsg',
  299: 'recvmmsg',
};

export function processFindings(process: Process, details: ProcessDetails, input: Input): Finding[] {
  const { snapshot, set, units } = input;
  const findings: Finding[] = [];
  if (/^user@\d+\.service$/.test(process.unit)) {
    const reason = `it was started by the per-user manager ${process.unit}, which stays in the VM`;
    findings.push({ rule: 'user-service', reason });
  }
  const leader = snapshot.processes.get(process.session);
  if (leader && !set.members.has(leader.pid)) {
    const reason = `its session belongs to ${leader.program}[${leader.pid}], which stays in the VM`;
    findings.push({ rule: 'session-outside', reason });
  }
  const facts = units.get(process.unit);
  if (facts?.mainPid === process.pid && facts.notifyAccess === 'none') {
    const reason = `${process.unit} takes no messages, so systemd would restart it once its main process has moved`;
    findings.push({ rule: 'notify-access', reason });
  }
  if (details.tracer !== 0) {
    const tracer = snapshot.processes.get(details.tracer)?.program ?? 'a process';
    findings.push({ rule: 'traced', reason: `it is traced by ${tracer}[${details.tracer}]` });
  }
  return [...findings, ...blockedCalls(process, details, input), ...namespaces(process, details, input)];
}

function blockedCalls(process: Process, { calls }: ProcessDetails, { snapshot }: Input): Finding[] {
  const names = new Set<string>();
  for (const { number, args } of calls) {
    const waits = WAITS[number];
    const reads = READS[number];
    if (waits) names.add(waits);
    if (number === FCNTL && LOCK_AND_WAIT.has(args[1])) names.add('fcntl(F_SETLKW)');
    const descriptor = reads === undefined ? undefined : process.descriptors.find(({ fd }) => fd === args[0]);
    if (!descriptor) continue;
    const isNetlink = socketOf(descriptor, snapshot.sockets)?.kind === 'netlink';
    if (isNetlink || descriptor.object?.startsWith('fifo:')) names.add(`${reads} of ${descriptor.target}`);
  }
  return [...names].map((name) => ({
    rule: 'blocked-call',
    descriptor: name,
    reason: `it waits in ${name}, which counts as activity in a sink: it would wake the VM at once`,
  }));
}

/** CRIU moves an IPC namespace with its memory and semaphores when the whole tree is in it. */
function namespaces(process: Process, details: ProcessDetails, input: Input): Finding[] {
  const tree = input.set.trees.find(({ members }) => members.includes(process.pid))?.members ?? [];
  const name = details.namespaceNames.ipc;
  const isWhole = tree.every((pid) => input.details.get(pid)?.namespaceNames.ipc === name);
  return details.ownNamespaces
    .filter((kind) => !MOVABLE_NAMESPACES.has(kind) && !(kind === 'ipc' && isWhole))
    .map((kind) => ({
      rule: 'namespace',
      descriptor: kind,
      reason: `it is in a ${kind} namespace of its own`,
    }));
}
