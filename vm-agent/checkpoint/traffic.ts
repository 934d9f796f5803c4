/**
 * Connections within the VM whose ends are dumped by two CRIUs, one after the other. That is exact as long as no data moves between the
 * first stop and the last: what moved is counted by the kernel, and compared. (In the sink everything is frozen beforehand.)
 */
import { SeamlessError } from '../../common/errors.ts';
import { exec } from '../../common/exec.ts';
import type { GatewaySet } from '../gateway/closure.ts';
import { indexLinks, socketOf } from '../gateway/links.ts';
import type { Snapshot } from '../gateway/snapshot.ts';

export interface Traffic {
  /** Throws `CHECKPOINT_FAILED` when data has moved since this was made; all processes must be stopped. */
  assertNone(): Promise<void>;
}

/** Notes what each connection between trees of the set has carried; costs nothing when there is none. */
export async function watchTraffic(set: GatewaySet, snapshot: Snapshot): Promise<Traffic> {
  const ports = portsBetweenTrees(set, snapshot);
  const before = await countBytes(ports);
  return {
    async assertNone() {
      const after = await countBytes(ports);
      const busy = [...before].find(([connection, bytes]) => after.get(connection) !== bytes);
      if (!busy) return;
      throw new SeamlessError(
        'CHECKPOINT_FAILED',
        `Expected no data on the connection ${busy[0]} within the VM while its ends were stopped, got some; park it when it is idle`,
      );
    },
  };
}

/** Local ports of connected TCP sockets whose other end is in another tree. */
export function portsBetweenTrees(set: GatewaySet, snapshot: Snapshot): number[] {
  const links = indexLinks(snapshot);
  const ports = new Set<number>();
  for (const { members } of set.trees) {
    for (const process of members.flatMap((pid) => snapshot.processes.get(pid) ?? [])) {
      for (const descriptor of process.descriptors) {
        const socket = socketOf(descriptor, snapshot.sockets);
        if (socket?.kind !== 'inet' || socket.protocol !== 'tcp' || socket.state !== 'connected') continue;
        const isBetween = links.sharers(descriptor, process).some((pid) => !members.includes(pid));
        if (isBetween) ports.add(socket.local.port);
      }
    }
  }
  return [...ports].sort((a, b) => a - b);
}

async function countBytes(ports: readonly number[]): Promise<Map<string, string>> {
  if (ports.length === 0) return new Map();
  const filter = ports.flatMap((port, index) => [...(index > 0 ? ['or'] : []), 'sport', '=', `:${port}`]);
  const { stdout } = await exec([
    'ss',
    '--tcp',
    '--numeric',
    '--info',
    '--oneline',
    '--no-header',
    ...filter,
  ]);
  return countsOf(stdout);
}

/** Output of `ss --tcp --info --oneline`: which connection, and what it has carried each way. */
export function countsOf(text: string): Map<string, string> {
  const lines = text.split('\n').map((line) => line.trim().split(/\s+/));
  return new Map(
    lines
      .filter((words) => words.length > 5)
      .map(([, , , local, remote, ...info]) => [
        `${local} → ${remote}`,
        info.filter((word) => /^bytes_(sent|received):/.test(word)).join(' '),
      ]),
  );
}
