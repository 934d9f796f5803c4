/**
 * Dumps the frozen processes of a sink, all trees at once and all or none: each CRIU stops at its gate, with its tree dumped but still
 * there, until every other one has come as far. What is left for `undoDump` is an agent that died between the first and
 * the last word of the verdict.
 */
import { rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { exec } from '../common/exec.ts';
import { dumpArguments } from '../criu/arguments.ts';
import { type Gate, openGate } from '../criu/gate.ts';
import type { Manifest } from '../criu/manifest.ts';
import { startCriu } from '../criu/run.ts';
import { type RestoreTarget, restoreTrees } from './restore/restore.ts';
import { isPopulated, type SinkCgroup, setFrozen, treeCgroup, waitFrozen } from './sandbox/cgroup.ts';
import { allowResets, muteResets } from './sandbox/resets.ts';
import { AGENT_FOLDER, enter } from './sandbox/sandbox.ts';

/** Beside the images; a name that no image can have. */
const GATES = '.gates';

/**
 * Dumps `manifest.trees`, whose externals have their names in this sink, into `folder` (on the host), made for it.
 * Throws `CHECKPOINT_FAILED` with everything frozen and alive, or, when not even that could be had, `RESTORE_FAILED`: `folder` holds
 * the trees that are not alive.
 * @param muted resolves when no reset can leave the sink any more; begun at the trigger, it is over by now
 */
export async function dumpImage(
  target: RestoreTarget,
  manifest: Manifest,
  folder: string,
  muted: Promise<void> = muteResets(target.init.pid, target.launcher.exec),
): Promise<void> {
  const { cgroup } = target;
  const cgroups = manifest.trees.map(({ root }) => join(cgroup.path, treeCgroup(root)));
  // CRIU thaws the cgroup that it was told once it holds the tree; one that is frozen from above would stay so.
  for (const each of cgroups) await setFrozen(each, true);
  await Promise.all([muted, ...cgroups.map((each) => waitFrozen(each))]);
  await setFrozen(cgroup.processes, false);
  await drainNetlink(target, manifest);
  const gates = manifest.trees.length > 1 ? await openGates(manifest, folder) : [];
  const runs = manifest.trees.map((tree, index) => startDump(target, tree, folder, gates[index]));
  if (gates.length > 0) {
    const reached = await Promise.allSettled(runs.map((run) => run.reached));
    const commit = reached.every(({ status }) => status === 'fulfilled');
    for (const run of runs) run.decide(commit);
  }
  const ends = await Promise.allSettled(runs.map(({ done }) => done));
  const failures = ends.filter((end) => end.status === 'rejected').map(({ reason }) => reason as Error);
  if (failures.length === 0) return;
  await undoDump(target, manifest, folder);
  // Of the trees that only did not get the word, CRIU says that its script failed.
  throw (
    failures.find(({ message }) => !/action scripts failed|exited, status=1$/.test(message)) ?? failures[0]
  );
}

async function drainNetlink({ init }: RestoreTarget, { trees }: Manifest): Promise<void> {
  const pids = trees
    .filter(({ netlink }) => netlink)
    .flatMap(({ processes }) => processes.map(({ pid }) => String(pid)));
  const [program = '', ...inside] = enter(init);
  if (pids.length > 0) await exec([program, ...inside, `${AGENT_FOLDER}/programs/drain-netlink.pl`, ...pids]);
}

/** After a dump that did not succeed as a whole: restores what it took away; all is frozen and alive again. Safe to repeat. */
export async function undoDump(target: RestoreTarget, manifest: Manifest, folder: string): Promise<void> {
  const { cgroup, init } = target;
  const gone = await treesGone(cgroup, manifest);
  // The others keep a freeze of their own meanwhile.
  if (gone.length > 0) await restoreTrees(target, manifest, gone, folder);
  await setFrozen(cgroup.processes, true);
  await waitFrozen(cgroup.processes);
  for (const { root } of manifest.trees) await setFrozen(join(cgroup.path, treeCgroup(root)), false);
  await allowResets(init.pid, manifest.lingering);
  await rm(folder, { recursive: true, force: true });
}

/** Tells CRIUs that an agent which died has left at their gates to undo; resolves with what to call when they have ended. */
export async function abandonDump(manifest: Manifest, folder: string): Promise<() => void> {
  const gates = await openGates(manifest, folder);
  for (const gate of gates) gate.decide(false);
  return () => {
    for (const gate of gates) gate.close();
  };
}

/** The trees of which no process is left: CRIU ends one only after its image is whole. */
export async function treesGone(cgroup: SinkCgroup, manifest: Manifest): Promise<Manifest['trees']> {
  const alive = await Promise.all(
    manifest.trees.map(({ root }) => isPopulated(join(cgroup.path, treeCgroup(root)))),
  );
  return manifest.trees.filter((_tree, index) => !alive[index]);
}

function startDump(
  { init, criuVersion, launcher }: RestoreTarget,
  tree: Manifest['trees'][number],
  folder: string,
  gate: Gate | undefined,
) {
  const args = dumpArguments(criuVersion, {
    root: tree.root,
    folder: `${AGENT_FOLDER}/images/${basename(folder)}/${tree.folder}`,
    externals: tree.externals.map(({ dumpKey }) => dumpKey),
    leaderless: tree.leaderless === true,
    watchedPaths: tree.watchedPaths ?? [],
    freezeCgroup: `${AGENT_FOLDER}/cgroup/${treeCgroup(tree.root)}`,
    ...(gate ? { actionScript: `${AGENT_FOLDER}/gate` } : {}),
  });
  return startCriu(args, join(folder, tree.folder), {
    launch: launcher.run,
    prefix: enter(init),
    limitsLibrary: `${AGENT_FOLDER}/limits.so`,
    ...(gate ? { gate } : {}),
  });
}

/** One gate per tree, by the path that it has inside the sink. */
function openGates({ trees }: Manifest, folder: string): Promise<Gate[]> {
  return Promise.all(
    trees.map(async ({ root }) => {
      const gate = await openGate(join(folder, '..', GATES, String(root)));
      return { ...gate, env: { SEAMLESS_GATE: `${AGENT_FOLDER}/images/${GATES}/${root}` } };
    }),
  );
}
