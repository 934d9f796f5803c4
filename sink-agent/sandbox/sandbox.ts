/**
 * The container of one sink, however it was made: where it is entered, what of ours is in it, and how it ends as a whole, also by an
 * agent that did not make it. What lasts on the host is its cgroup and its port; both have names that follow from the VM's.
 */
import { join } from 'node:path';
import { isPopulated, killCgroup, removeCgroup, type SinkCgroup } from './cgroup.ts';
import { removeNetwork } from './network.ts';
import type { ProcessIdentity } from './process.ts';

/** The agent's folder inside a sink; its programs, images and cgroup are mounted there. */
export const AGENT_FOLDER = '/run/seamless-sink';
/** Programs that run inside a sink. */
export const PROGRAMS = join(import.meta.dirname, '..', 'inside');

/** argv that enters the container; a command follows. */
export function enter(init: ProcessIdentity): string[] {
  return ['nsenter', '--target', String(init.pid), '--mount', '--uts', '--ipc', '--net', '--pid', '--'];
}

/** The container's root tree as seen from the host. Symbolic links in it must not be followed from here. */
export function rootTree(init: ProcessIdentity): string {
  return `/proc/${init.pid}/root`;
}

/** Ends every process in its cgroup, and removes cgroup and port. Safe to repeat. */
export async function clearAway({ cgroup, port }: { cgroup: SinkCgroup; port: string }): Promise<void> {
  const populated = await isPopulated(cgroup.path).catch(() => false);
  if (populated) await killCgroup(cgroup.path);
  await removeCgroup(cgroup.path);
  await removeNetwork(port);
}
