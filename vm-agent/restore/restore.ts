/**
 * The restore of an image in the VM: all process trees or none.
 *
 *   fresh ends → CRIU restores each tree and stops at its gate → cgroups → commit → (answer) → MAINPID=real → placeholders end
 *
 * At the gates all processes exist and none has run; a failure up to there ends them with their connections untouched
 * (sockets still in repair mode), so that the image is as good as before. After the commit there is only forward.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { asSeamlessError, SeamlessError } from '../../common/errors.ts';
import { exec } from '../../common/exec.ts';
import { restoreArguments } from '../../criu/arguments.ts';
import { GATE_PROGRAM, openGate } from '../../criu/gate.ts';
import type { Manifest, ProcessTree, TreeProcess } from '../../criu/manifest.ts';
import { type CriuRun, startCriu } from '../../criu/run.ts';
import { withLesserMtu } from '../../criu/segment-size.ts';
import {
  CGROUP_ROOT,
  enterNamespaces,
  folderFrom,
  type Placeholder,
  stepDown,
} from '../checkpoint/placeholders.ts';
import type { AgentContext } from '../context.ts';
import { isAlive, programOf } from '../processes.ts';
import { startStopwatch } from '../stopwatch.ts';
import { openFreshEnds } from './externals.ts';

const NS_LAST_PID = '/proc/sys/kernel/ns_last_pid';

/**
 * Restores image `imageId`, or what of it does not run yet. Throws `RESTORE_FAILED` with nothing of it running, and the image kept.
 * When it resolves the processes run and may be spoken to; `settled` tells when systemd knows them again, and never rejects.
 */
export async function restore(
  context: AgentContext,
  imageId: string,
): Promise<{ processes: number; settled: Promise<void> }> {
  const { state, images, log } = context;
  const watch = startStopwatch();
  const { away } = state.read();
  const placeholders = away?.placeholders ?? [];
  const manifest = await images.manifest(imageId);
  const isRepeated = away?.phase === 'restoring' && away.imageId === imageId;
  const missing = manifest.trees.filter((tree) => !(isRepeated && runs(tree)));
  assertFree(missing.flatMap(({ processes }) => processes));
  const before = away;
  if (away) state.write({ away: { ...away, phase: 'restoring', imageId } });
  try {
    const [device] = manifest.network.interfaces;
    await withLesserMtu(device, setMtu, () =>
      restoreTrees(context, images.folder(imageId), missing, placeholders),
    );
  } catch (thrown) {
    // With something let go already, only a repetition that brings the rest can help.
    if (manifest.trees.every(hasEnded)) state.write({ away: before });
    const error = asSeamlessError(thrown);
    throw error.code === 'RESTORE_FAILED'
      ? error
      : new SeamlessError('RESTORE_FAILED', error.message, { cause: thrown, details: error.details });
  }
  state.write({ away: { phase: 'settling', imageId, placeholders }, images: { [imageId]: 'restored' } });
  watch.lap('restore');
  const settled = settle(context, imageId, placeholders).then(() => {
    watch.lap('mainPids');
    log.info('restore.done', { imageId, ms: watch.steps });
  });
  return { processes: count(manifest), settled };
}

/** Restores `trees` from the image in `imageFolder` and lets them go, all or none; their processes are back in their cgroups. */
export async function restoreTrees(
  context: AgentContext,
  imageFolder: string,
  trees: readonly ProcessTree[],
  placeholders: readonly Placeholder[],
): Promise<void> {
  if (trees.length === 0) return;
  keepPidsFree(trees.flatMap(({ processes }) => processes.map(({ pid }) => pid)));
  const runs: CriuRun[] = [];
  try {
    for (const tree of trees)
      runs.push(await startRestore(context, join(imageFolder, tree.folder), tree, placeholders));
    const early = adoptEarly(trees, runs);
    await Promise.all(runs.map(({ reached }) => reached));
    await early;
    for (const tree of trees) for (const process of tree.processes) putIntoCgroup(process, tree);
    assertAlive(trees);
    for (const run of runs) run.decide(true);
    await Promise.all(runs.map(({ done }) => done));
  } catch (thrown) {
    for (const run of runs) run.decide(false);
    await Promise.allSettled(runs.map(({ done }) => done));
    throw thrown;
  }
}

/**
 * Puts each tree's root into its cgroup as soon as it exists, and then the others that do: the kernel lets some milliseconds pass before the
 * first process that changes its cgroup (it waits for all processors) and none before those that follow at once. So that time is CRIU's, too.
 * Nothing depends on it: who is not there yet, or not yet to be moved, follows at the gate.
 */
async function adoptEarly(trees: readonly ProcessTree[], runs: readonly CriuRun[]): Promise<void> {
  const adopt = async (tree: ProcessTree, run: CriuRun | undefined) => {
    await run?.begun;
    const isRoot = ({ pid }: TreeProcess) => pid === tree.root;
    for (const process of [...tree.processes.filter(isRoot), ...tree.processes.filter((one) => !isRoot(one))])
      await writeFile(join(homeOf(process, tree), 'cgroup.procs'), String(process.pid)).catch(() => {});
  };
  await Promise.allSettled(trees.map((tree, index) => adopt(tree, runs[index])));
}

/** By the file, since a process costs; in a container that may be read-only. */
async function setMtu(device: string, mtu: number): Promise<void> {
  try {
    writeFileSync(`/sys/class/net/${device}/mtu`, String(mtu));
  } catch {
    await exec(['ip', 'link', 'set', device, 'mtu', String(mtu)]);
  }
}

/** True when every process of `tree` lives under its name. */
export function runs(tree: ProcessTree): boolean {
  return tree.processes.every(({ pid, program }) => programOf(pid) === program);
}

function hasEnded(tree: ProcessTree): boolean {
  return tree.processes.every(({ pid }) => !isAlive(pid));
}

/** Asked before the commit: after it a process may well end by itself, and that is its own affair. */
function assertAlive(trees: readonly ProcessTree[]): void {
  const ended = trees.flatMap(({ processes }) => processes.filter(({ pid }) => !isAlive(pid)));
  if (ended.length === 0) return;
  const names = ended.map(({ program, pid }) => `${program}[${pid}]`).join(', ');
  throw new SeamlessError('RESTORE_FAILED', `Expected every restored process to live, got ${names} ended`);
}

/** What follows once all processes live, and nobody waits for; safe to repeat. */
export async function settle(
  context: AgentContext,
  imageId: string,
  placeholders: readonly Placeholder[],
): Promise<void> {
  await stepDown(context, placeholders);
  context.state.write({ away: null, images: { [imageId]: 'restored' } });
}

async function startRestore(
  context: AgentContext,
  folder: string,
  tree: ProcessTree,
  placeholders: readonly Placeholder[],
): Promise<CriuRun> {
  const ends = await openFreshEnds(tree.externals);
  const root = tree.processes.find(({ pid }) => pid === tree.root);
  const keeper = placeholders.find(({ cgroup }) => cgroup === root?.cgroup);
  try {
    const args = restoreArguments(context.criuVersion, {
      leaderless: tree.leaderless === true,
      folder: keeper ? folderFrom(tree.namespaces, folder) : folder,
      inherit: ends.inherit,
      actionScript: GATE_PROGRAM,
    });
    const prefix = keeper ? enterNamespaces(keeper.pid, tree.namespaces) : [];
    const run = startCriu(args, folder, {
      launch: context.launcher.run,
      gate: await openGate(join(context.gates, tree.folder)),
      prefix,
      descriptors: ends.descriptors,
    });
    run.done.then(ends.close, ends.close);
    return run;
  } catch (thrown) {
    ends.close();
    throw thrown;
  }
}

function assertFree(processes: readonly TreeProcess[]): void {
  const taken = processes.filter(({ pid }) => isAlive(pid));
  if (taken.length === 0) return;
  const names = taken.map(({ pid }) => `${pid} (now ${programOf(pid)})`).join(', ');
  throw new SeamlessError('RESTORE_FAILED', `Expected the PIDs of the image to be free, got ${names} taken`);
}

/** CRIU’s own helpers get the next free PIDs: these must not be the ones that it is about to restore. */
function keepPidsFree(pids: readonly number[]): void {
  const highest = Math.max(...pids);
  const last = Number(readFileSync(NS_LAST_PID, 'latin1'));
  if (last <= highest) writeFileSync(NS_LAST_PID, String(highest));
}

function putIntoCgroup(process: TreeProcess, tree: ProcessTree): void {
  writeFileSync(join(homeOf(process, tree), 'cgroup.procs'), String(process.pid));
}

function homeOf({ cgroup }: TreeProcess, tree: ProcessTree): string {
  const root = tree.processes.find((process) => process.pid === tree.root);
  const home = [cgroup, root?.cgroup ?? cgroup].find((path) =>
    existsSync(`${CGROUP_ROOT}${path}/cgroup.procs`),
  );
  if (home === undefined) {
    throw new SeamlessError(
      'RESTORE_FAILED',
      `Expected cgroup ${cgroup} to exist, got none; its unit has been stopped`,
    );
  }
  return join(CGROUP_ROOT, home);
}

function count(manifest: Manifest): number {
  return manifest.trees.reduce((sum, { processes }) => sum + processes.length, 0);
}
