/**
 * Dumps the frozen processes of a sink, all trees at once. It is all or none: trees that were dumped while another one failed
 * are restored from what was just made, so that the sink is frozen with everything alive, as before.
 */
import { rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { dumpArguments } from '../criu/arguments.ts';
import type { Manifest } from '../criu/manifest.ts';
import { startCriu } from '../criu/run.ts';
import { type RestoreTarget, restoreTrees } from './restore/restore.ts';
import { isPopulated, type SinkCgroup, setFrozen, treeCgroup, waitFrozen } from './sandbox/cgroup.ts';
import { AGENT_FOLDER, enter } from './sandbox/sandbox.ts';

/**
 * Dumps `manifest.trees`, whose externals have their names in this sink, into `folder` (on the host), made for it.
 * Throws `CHECKPOINT_FAILED` with everything frozen and alive, or, when not even that could be had, `RESTORE_FAILED`: `folder` holds
 * the trees that are not alive.
 */
export async function dumpImage(target: RestoreTarget, manifest: Manifest, folder: string): Promise<void> {
  const { cgroup, init, criuVersion } = target;
  const cgroups = manifest.trees.map(({ root }) => join(cgroup.path, treeCgroup(root)));
  // CRIU thaws the cgroup that it was told once it holds the tree; one that is frozen from above would stay so.
  for (const each of cgroups) await setFrozen(each, true);
  await Promise.all(cgroups.map((each) => waitFrozen(each)));
  await setFrozen(cgroup.processes, false);
  const runs = manifest.trees.map((tree) => {
    const args = dumpArguments(criuVersion, {
      root: tree.root,
      folder: `${AGENT_FOLDER}/images/${basename(folder)}/${tree.folder}`,
      externals: tree.externals.map(({ dumpKey }) => dumpKey),
      freezeCgroup: `${AGENT_FOLDER}/cgroup/${treeCgroup(tree.root)}`,
    });
    return startCriu(args, join(folder, tree.folder), { prefix: enter(init) });
  });
  const ends = await Promise.allSettled(runs.map(({ done }) => done));
  const failed = ends.find((end) => end.status === 'rejected');
  if (!failed) return;
  await undoDump(target, manifest, folder);
  throw failed.reason;
}

/** After a dump that did not succeed as a whole: restores what it took away; all is frozen and alive again. Safe to repeat. */
export async function undoDump(target: RestoreTarget, manifest: Manifest, folder: string): Promise<void> {
  const { cgroup } = target;
  const gone = await treesGone(cgroup, manifest);
  if (gone.length > 0) {
    // The rest keeps its own freeze meanwhile: `processes/` must be thawed for CRIU.
    await restoreTrees(target, manifest, gone, folder);
  }
  await setFrozen(cgroup.processes, true);
  await waitFrozen(cgroup.processes);
  for (const { root } of manifest.trees) await setFrozen(join(cgroup.path, treeCgroup(root)), false);
  await rm(folder, { recursive: true, force: true });
}

/** The trees of which no process is left: CRIU ends one only after its image is whole. */
export async function treesGone(cgroup: SinkCgroup, manifest: Manifest): Promise<Manifest['trees']> {
  const alive = await Promise.all(
    manifest.trees.map(({ root }) => isPopulated(join(cgroup.path, treeCgroup(root)))),
  );
  return manifest.trees.filter((_tree, index) => !alive[index]);
}
