/** Discovery: snapshot → gateway set → refusals. Also what a checkpoint starts from. */
import { statSync } from 'node:fs';
import type { NetworkIdentity } from '../../criu/manifest.ts';
import type { GatewayProcess, GatewayScan } from '../api.ts';
import { bareAddresses, readNetwork } from '../checkpoint/network.ts';
import { readMemory } from '../memory.ts';
import type { UnitFacts, UnitReader } from '../systemd/unit.ts';
import { type GatewaySet, gatewaySet } from './closure.ts';
import { type ProcessDetails, readDetails } from './mappings.ts';
import { imageBytes, refusalsOf } from './refusals.ts';
import { readSnapshot, type Snapshot } from './snapshot.ts';

export interface Discovery {
  network: NetworkIdentity;
  snapshot: Snapshot;
  set: GatewaySet;
  details: Map<number, ProcessDetails>;
  units: Map<string, UnitFacts>;
  scan: GatewayScan;
}

/** The template's build writes it last into the tree that VMs and sinks share. */
const TEMPLATE = '/usr/lib/seamless/template.json';

/**
 * @param managementAddress the agent's own: what uses it is not of the production network
 * @param programs names of those that count as gateway processes, too
 */
export async function discover(
  managementAddress: string,
  unitReader: UnitReader,
  programs: readonly string[] = [],
): Promise<Discovery> {
  const found = await look(managementAddress, unitReader, programs);
  // Sockets are read before processes: one whose process has ended in between seems to be the kernel's, but only once.
  const isOdd = found.scan.refusals.some(({ rule }) => rule === 'kernel-listener');
  return isOdd ? look(managementAddress, unitReader, programs) : found;
}

/** PIDs of the gateway set alone, without a word on whether it can move. */
export async function gatewayPids(
  managementAddress: string,
  programs: readonly string[],
): Promise<ReadonlySet<number>> {
  const { set } = await lookAtSet(managementAddress, programs);
  return new Set(set.members.keys());
}

async function lookAtSet(managementAddress: string, programs: readonly string[]) {
  const [network, snapshot] = await Promise.all([readNetwork(managementAddress), readSnapshot()]);
  const options = {
    agent: process.pid,
    addresses: bareAddresses(network),
    linkLocal: network.interfaces.flatMap(({ linkLocal = [] }) =>
      linkLocal.map((address) => address.split('/')[0] ?? ''),
    ),
    managementAddress,
    programs,
  };
  return { network, snapshot, options, set: gatewaySet(snapshot, options) };
}

async function look(
  managementAddress: string,
  unitReader: UnitReader,
  programs: readonly string[],
): Promise<Discovery> {
  const { network, snapshot, options, set } = await lookAtSet(managementAddress, programs);
  const details = new Map<number, ProcessDetails>();
  const templateMadeAt = statSync(TEMPLATE, { throwIfNoEntry: false })?.ctimeMs ?? null;
  for (const pid of set.members.keys()) {
    try {
      details.set(pid, readDetails(pid, snapshot.mappings(pid), templateMadeAt));
    } catch {
      set.members.delete(pid); // it has ended since
    }
  }
  const units = await unitReader.read(unitsOf(set, snapshot));
  const { availableBytes } = readMemory();
  const refusals = refusalsOf({ snapshot, set, details, units, availableBytes, options });
  const processes = [...set.members].flatMap(([pid, because]): GatewayProcess[] => {
    const found = snapshot.processes.get(pid);
    return found ? [{ pid, because, parent: found.parent, program: found.program, unit: found.unit }] : [];
  });
  const scan = { processes, listeners: set.listeners, refusals, imageBytes: imageBytes(details) };
  return { network, snapshot, set, details, units, scan };
}

function unitsOf(set: GatewaySet, snapshot: Snapshot): string[] {
  const units = [...set.members.keys()].map((pid) => snapshot.processes.get(pid)?.unit ?? '');
  return [...new Set(units)].filter((unit) => unit !== '');
}
