/**
 * Restores an image into a container: dummy files, stand-ins, one `criu restore` per process tree, all at once.
 *
 * Each tree is frozen by an action script while CRIU still holds it, before its first instruction; when all are there, the freeze moves
 * from the trees' cgroups to the one above, which the syscall filter owns. Should anything fail, no process of the image is left: the
 * whole container is ended, since sockets of killed processes would live on in its network stack.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../../common/errors.ts';
import { exec } from '../../common/exec.ts';
import type { AllowedCall } from '../../criu/answers.ts';
import { restoreArguments } from '../../criu/arguments.ts';
import type { Launcher } from '../../criu/launcher.ts';
import type { Manifest, ProcessTree } from '../../criu/manifest.ts';
import { startCriu } from '../../criu/run.ts';
import { withLesserMtu } from '../../criu/segment-size.ts';
import { processesIn, type SinkCgroup, setFrozen, treeCgroup, waitFrozen } from '../sandbox/cgroup.ts';
import { byInnerPid, type ProcessIdentity } from '../sandbox/process.ts';
import { AGENT_FOLDER, enter, rootTree } from '../sandbox/sandbox.ts';
import { placeAnswers } from './answers.ts';
import { clearForBinding, placeFiles } from './dummy-files.ts';
import { renameExternals, standIns } from './stand-ins.ts';

/** A damaged image can make CRIU wait for ever. */
const CRIU_TIMEOUT_MS = 20_000;

export interface RestoreTarget {
  init: ProcessIdentity;
  cgroup: SinkCgroup;
  /** cgroups of v1 in which its processes are born, see runtime.ts. */
  limits: readonly string[];
  /** Of the CRIU in the container. */
  criuVersion: string;
  /** Starts what a wake waits for. */
  launcher: Launcher;
}

/** @param folder of the image on the host; its name is that in the sink too. @param allow of the template's profile. */
export async function restoreImage(
  target: RestoreTarget,
  manifest: Manifest,
  folder: string,
  allow: readonly AllowedCall[] = [],
): Promise<void> {
  const root = rootTree(target.init);
  await placeFiles(root, manifest.files);
  await clearForBinding(
    root,
    manifest.trees.flatMap(({ boundSockets }) => boundSockets ?? []),
  );
  await placeAnswers(root, manifest.files, allow);
  await restoreTrees(target, manifest, manifest.trees, folder);
}

/** Restores `trees` of an image whose files are placed; they end frozen by `processes/` with all others there. */
export function restoreTrees(
  target: RestoreTarget,
  manifest: Manifest,
  trees: readonly ProcessTree[],
  folder: string,
): Promise<void> {
  const [device] = manifest.network.interfaces;
  const setMtu = async (name: string, mtu: number) => {
    const change = ['ip', 'link', 'set', name, 'mtu', String(mtu)];
    await exec(['nsenter', '--target', String(target.init.pid), '--net', ...change]);
  };
  return withLesserMtu(device, setMtu, () => startAll(target, manifest, trees, folder));
}

async function startAll(
  { init, cgroup, limits, criuVersion, launcher }: RestoreTarget,
  manifest: Manifest,
  trees: readonly ProcessTree[],
  folder: string,
): Promise<void> {
  const sockets = manifest.files.filter(({ type }) => type === 'socket');
  for (const tree of trees) {
    await mkdir(join(cgroup.path, treeCgroup(tree.root)), { recursive: true });
    await setFrozen(join(cgroup.path, treeCgroup(tree.root)), false);
  }
  await setFrozen(cgroup.processes, false);
  const runs = trees.map((tree, index) => {
    const { ends, inherit } = standIns(tree, index === 0 ? sockets : []);
    const inside = `${AGENT_FOLDER}/images/${folder.slice(folder.lastIndexOf('/') + 1)}/${tree.folder}`;
    const script = [`${AGENT_FOLDER}/programs/restore-tree.pl`, treeCgroup(tree.root), ...ends, '--'];
    const args = restoreArguments(criuVersion, {
      leaderless: tree.leaderless === true,
      folder: inside,
      inherit,
      actionScript: `${AGENT_FOLDER}/programs/freeze-restored.sh`,
    });
    return startCriu(args, join(folder, tree.folder), {
      launch: launcher.run,
      prefix: [...bornIn(limits), ...enter(init), ...script],
      timeoutMs: CRIU_TIMEOUT_MS,
    });
  });
  const ends = await Promise.allSettled(runs.map(({ done }) => done));
  const failed = ends.find((end) => end.status === 'rejected');
  if (failed) throw failed.reason;
  await setFrozen(cgroup.processes, true);
  await waitFrozen(cgroup.processes);
  for (const { root } of trees) await setFrozen(join(cgroup.path, treeCgroup(root)), false);
}

/** argv that moves itself into these cgroups; a command follows. Only from outside: a container does not see them. */
function bornIn(limits: readonly string[]): string[] {
  if (limits.length === 0) return [];
  const move = 'while [ "$1" != -- ]; do echo 0 > "$1/cgroup.procs"; shift; done; shift; exec "$@"';
  return ['sh', '-euc', move, 'sh', ...limits, '--'];
}

/** The trees as they are in the sink: the same but for the names of what stayed in the VM. */
export function restoredTrees({ cgroup }: RestoreTarget, manifest: Manifest): Promise<ProcessTree[]> {
  return Promise.all(
    manifest.trees.map(async (tree) => {
      const hostPids = await byInnerPid(await processesIn(join(cgroup.path, treeCgroup(tree.root))));
      const missing = tree.processes.find(({ pid }) => !hostPids.has(pid));
      if (missing) {
        throw new SeamlessError(
          'RESTORE_FAILED',
          `Expected process ${missing.pid} (${missing.program}) in the sink`,
        );
      }
      return { ...tree, externals: await renameExternals(tree.externals, (pid) => hostPids.get(pid)) };
    }),
  );
}
