/**
 * Why a gateway set can't be moved: each rule looks at the set and names the process, the descriptor, the reason and the remedy
 * (rules.ts). What no rule foresees makes the dump itself fail, which leaves everything as it was.
 */
import type { Refusal } from '../api.ts';
import type { UnitFacts } from '../systemd/unit.ts';
import { describe, type GatewaySet, isProductionListener, productionListeners } from './closure.ts';
import { descriptorFindings } from './descriptor-rules.ts';
import { isClientListener, isInfrastructure } from './infrastructure.ts';
import { indexLinks, type Links } from './links.ts';
import { memoryFindings } from './mapping-rules.ts';
import type { ProcessDetails } from './mappings.ts';
import { groupName, hearsDatagrams } from './multicast.ts';
import { processFindings } from './process-rules.ts';
import { refusal } from './rules.ts';
import type { Snapshot } from './snapshot.ts';

export interface RefusalInput {
  snapshot: Snapshot;
  set: GatewaySet;
  /** Of every member. */
  details: ReadonlyMap<number, ProcessDetails>;
  units: ReadonlyMap<string, UnitFacts>;
  /** What the VM has free for the image, which lies in its memory until it is sent. */
  availableBytes: number;
  options: {
    agent: number;
    addresses: readonly string[];
    /** Of the production network: what a sink has. */
    linkLocal: readonly string[];
    managementAddress: string;
  };
}

/** What a rule may look at. */
export type Input = RefusalInput & { links: Links };

/** Of the available memory; the rest is for CRIU and what else goes on. */
const IMAGE_SHARE = 0.7;

/** All reasons, an empty list when the set can be moved. */
export function refusalsOf(given: RefusalInput): Refusal[] {
  const input = { ...given, links: indexLinks(given.snapshot) };
  const refusals = [...listenersThatStay(input), ...multicast(input), ...imageSize(input)];
  for (const pid of input.set.members.keys()) {
    const process = input.snapshot.processes.get(pid);
    const details = input.details.get(pid);
    if (!process || !details) continue;
    const findings = [
      ...processFindings(process, details, input),
      ...process.descriptors.flatMap((descriptor) => descriptorFindings(descriptor, process, input)),
      ...memoryFindings(process, details, input),
    ];
    for (const finding of findings) refusals.push(refusal(finding, process));
  }
  return refusals;
}

/** Resident memory of the set that is in no file: about what its image takes. */
export function imageBytes(details: ReadonlyMap<number, ProcessDetails>): number {
  return [...details.values()].reduce((sum, { anonymousBytes }) => sum + anonymousBytes, 0);
}

/** Listeners on the production network that nobody would answer for while the VM is parked. */
function listenersThatStay({ snapshot, options, links }: Input): Refusal[] {
  const refusals: Refusal[] = [];
  for (const listener of productionListeners(snapshot, options)) {
    const process = snapshot.processes.get(listener.pid);
    if (!process || !isInfrastructure(process, options.agent) || isClientListener(process, listener))
      continue;
    const finding =
      process.pid === 1
        ? {
            rule: 'socket-activation' as const,
            reason: `systemd itself listens on ${describe(listener)} for a socket unit, and systemd can’t move`,
          }
        : {
            rule: 'infrastructure-listener' as const,
            reason: `it listens on ${describe(listener)}, belongs to the VM itself (${process.unit}) and stays in it: nobody would answer there`,
          };
    refusals.push(refusal(finding, process));
  }
  for (const [inode, socket] of snapshot.sockets) {
    if (socket.kind !== 'inet' || !isProductionListener(socket, options.addresses) || links.isHeld(inode))
      continue;
    const where = describe({ protocol: socket.protocol, ...socket.local });
    const reason = `no process has the socket on ${where}: the kernel itself serves it, and can’t move`;
    refusals.push(refusal({ rule: 'kernel-listener', reason }, { pid: 0, program: 'kernel' }));
  }
  return refusals;
}

/** Doubt means that it is a member of the set: of what stays, only what hears datagrams as a client is known to join groups. */
function multicast({ snapshot, set, options }: Input): Refusal[] {
  const isInfrastructures = [...snapshot.processes.values()].some(
    (process) => isInfrastructure(process, options.agent) && hearsDatagrams(process.pid, snapshot),
  );
  const [group] = isInfrastructures ? [] : snapshot.groups;
  const pid = [...set.members.keys()].find((member) => hearsDatagrams(member, snapshot));
  const process = pid === undefined ? undefined : snapshot.processes.get(pid);
  if (group === undefined || !process) return [];
  const reason = `it hears datagrams, and somebody has joined the multicast group ${groupName(group)}: CRIU would lose the membership`;
  return [refusal({ rule: 'multicast', reason }, process)];
}

function imageSize({ snapshot, details, availableBytes }: Input): Refusal[] {
  const bytes = imageBytes(details);
  const [largest] = [...details].sort(([, a], [, b]) => b.anonymousBytes - a.anonymousBytes);
  const process = largest && snapshot.processes.get(largest[0]);
  if (!process || bytes <= availableBytes * IMAGE_SHARE) return [];
  const reason = `the image of ${mebibytes(bytes)} MiB does not fit into the ${mebibytes(availableBytes)} MiB of memory that the VM has free`;
  return [refusal({ rule: 'memory', reason }, process)];
}

const mebibytes = (bytes: number): number => Math.round(bytes / 2 ** 20);
