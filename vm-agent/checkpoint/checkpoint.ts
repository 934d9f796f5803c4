/**
 * The checkpoint of a gateway set: all process trees or none, and systemd goes on believing in the units.
 *
 *   placeholders → CRIU dumps each tree and stops at its gate → manifest → MAINPID=placeholder → commit → nothing left
 *
 * At the gates all processes exist, stopped, and all images are complete; up to there any failure lets everything go on as before.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { asSeamlessError, SeamlessError } from '../../common/errors.ts';
import type { AnsweredPath } from '../../criu/answers.ts';
import { dumpArguments } from '../../criu/arguments.ts';
import { GATE_PROGRAM, openGate } from '../../criu/gate.ts';
import { MANIFEST_VERSION, type Manifest, type ProcessTree } from '../../criu/manifest.ts';
import { type CriuRun, startCriu } from '../../criu/run.ts';
import { readWatchedPaths } from '../../criu/watches.ts';
import type { AgentContext } from '../context.ts';
import { boundSockets } from '../gateway/closure.ts';
import { devicesOutside, externalsOf } from '../gateway/externals.ts';
import { socketOf } from '../gateway/links.ts';
import { readMappings } from '../gateway/mappings.ts';
import { type Discovery, discover } from '../gateway/scan.ts';
import { type Process, readProcess } from '../gateway/snapshot.ts';
import { MANIFEST_FILE } from '../images.ts';
import { awaitGone, isAlive } from '../processes.ts';
import { restoreTrees } from '../restore/restore.ts';
import { startStopwatch } from '../stopwatch.ts';
import { answeredFiles, withAnswered } from './answered-files.ts';
import { lingeringConnections, withClients } from './connections.ts';
import { heldFiles } from './held-files.ts';
import { bareAddresses } from './network.ts';
import {
  enterNamespaces,
  folderFrom,
  type Placeholder,
  type PlaceholderRequest,
  startPlaceholders,
  stepDown,
  takeOver,
} from './placeholders.ts';
import { watchTraffic } from './traffic.ts';
import { assertUnchanged } from './unchanged.ts';

const GONE_TIMEOUT_MS = 5000;

/** Dumps the gateway set into `imageId`. Throws `VM_UNPARKABLE` or `CHECKPOINT_FAILED`; then everything runs as before. */
export async function checkpoint(
  context: AgentContext,
  imageId: string,
  answers: readonly AnsweredPath[] = [],
  programs: readonly string[] = [],
): Promise<{ manifest: Manifest; bytes: number }> {
  const { state, images, log } = context;
  const watch = startStopwatch();
  const found = await discover(context.managementAddress, context.units, programs);
  watch.lap('scan');
  assertMovable(found);
  const folder = images.folder(imageId);
  await images.remove(imageId);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const trees = treesToDump(found);
  let placeholders: Placeholder[] = [];
  const record = (phase: 'dumping' | 'committing' | 'dumped') =>
    state.write({ away: { phase, imageId, placeholders } });
  const runs: CriuRun[] = [];
  let isCommitted = false;
  try {
    placeholders = await startPlaceholders(context.helpers.standIns, placeholderRequests(trees, found));
    record('dumping');
    watch.lap('placeholders');
    const traffic = await watchTraffic(found.set, found.snapshot);
    for (const tree of trees) runs.push(await startDump(context, folder, tree));
    await Promise.all(runs.map(({ reached }) => reached));
    await traffic.assertNone();
    watch.lap('dump');
    const manifest = await writeManifest(context, imageId, found, trees, answers);
    watch.lap('manifest');
    await takeOver(context.helpers.notifyAs, placeholders);
    watch.lap('mainPids');
    record('committing');
    isCommitted = true;
    for (const run of runs) run.decide(true);
    await Promise.all(runs.map(({ done }) => done));
    await awaitGone(
      trees.flatMap(({ processes }) => processes),
      GONE_TIMEOUT_MS,
    );
    record('dumped');
    state.write({ images: { [imageId]: 'dumped' } });
    watch.lap('end');
    log.info('checkpoint.done', { imageId, trees: trees.length, ms: watch.steps });
    return { manifest, bytes: images.bytes(imageId) };
  } catch (thrown) {
    for (const run of runs) run.decide(false);
    await Promise.allSettled(runs.map(({ done }) => done));
    if (isCommitted) await bringBack(context, imageId, trees);
    await undoCheckpoint(context, imageId, placeholders);
    const error = asSeamlessError(thrown);
    throw error.code === 'CHECKPOINT_FAILED'
      ? error
      : new SeamlessError('CHECKPOINT_FAILED', error.message, { cause: thrown, details: error.details });
  }
}

/** Makes everything as if the checkpoint had not been: the main PIDs, no placeholders, no image. */
export async function undoCheckpoint(
  context: AgentContext,
  imageId: string,
  placeholders: readonly Placeholder[],
): Promise<void> {
  await stepDown(context, placeholders);
  await context.images.remove(imageId);
  context.state.write({ away: null, images: { [imageId]: null } });
}

function assertMovable({ scan }: Discovery): void {
  const [first] = scan.refusals;
  if (first) {
    throw new SeamlessError(
      'VM_UNPARKABLE',
      `${first.program}[${first.pid}]: ${first.reason}. ${first.remedy}`,
      {
        details: { refusals: scan.refusals },
      },
    );
  }
  if (scan.processes.length === 0) {
    throw new SeamlessError(
      'VM_UNPARKABLE',
      'No process listens on the production network: nothing would answer for the VM',
      {
        details: { refusals: [] },
      },
    );
  }
}

function treesToDump({ set, snapshot, details }: Discovery): ProcessTree[] {
  return set.trees.map(({ root, members }) => {
    const processes = members.flatMap((pid) => snapshot.processes.get(pid) ?? []);
    const own = details.get(root)?.ownNamespaces ?? [];
    return {
      folder: `tree-${root}`,
      root,
      processes: processes.map(({ pid, parent, program, cgroup }) => ({ pid, parent, program, cgroup })),
      externals: [
        ...externalsOf(processes, snapshot),
        ...(own.includes('mnt') ? devicesOutside(processes) : []),
      ],
      leaderless: snapshot.processes.get(root)?.session !== root,
      netlink: processes.some(({ descriptors }) =>
        descriptors.some((descriptor) => socketOf(descriptor, snapshot.sockets)?.kind === 'netlink'),
      ),
      namespaces: own.filter((kind) => kind === 'mnt' || kind === 'uts'),
      boundSockets: boundSockets(processes, snapshot),
    };
  });
}

function placeholderRequests(
  trees: readonly ProcessTree[],
  { units, snapshot }: Discovery,
): PlaceholderRequest[] {
  const requests = new Map<string, PlaceholderRequest>();
  for (const tree of trees) {
    for (const { pid, cgroup } of tree.processes) {
      if (requests.has(cgroup)) continue;
      const unit = snapshot.processes.get(pid)?.unit ?? '';
      const mainPid = units.get(unit)?.mainPid ?? 0;
      requests.set(cgroup, {
        cgroup,
        unit,
        // Only of the cgroup that the main process is in: a unit may have several.
        mainPid: snapshot.processes.get(mainPid)?.cgroup === cgroup && isMember(trees, mainPid) ? mainPid : 0,
        within: { pid: tree.root, namespaces: tree.namespaces },
      });
    }
  }
  return [...requests.values()];
}

function isMember(trees: readonly ProcessTree[], pid: number): boolean {
  return trees.some(({ processes }) => processes.some((process) => process.pid === pid));
}

async function startDump(context: AgentContext, imageFolder: string, tree: ProcessTree): Promise<CriuRun> {
  const folder = join(imageFolder, tree.folder);
  await mkdir(folder, { mode: 0o700 });
  const externals = tree.externals.map(({ dumpKey }) => dumpKey);
  const args = dumpArguments(context.criuVersion, {
    root: tree.root,
    leaderless: tree.leaderless === true,
    folder: folderFrom(tree.namespaces, folder),
    externals,
    actionScript: GATE_PROGRAM,
  });
  return startCriu(args, folder, {
    gate: await openGate(join(context.gates, tree.folder)),
    prefix: enterNamespaces(tree.root, tree.namespaces),
    launch: context.launcher.run,
  });
}

/** Looks again, at the stopped processes: what the image holds is what they have now, which must be what they had at the scan. */
async function writeManifest(
  context: AgentContext,
  imageId: string,
  found: Discovery,
  trees: readonly ProcessTree[],
  answers: readonly AnsweredPath[],
): Promise<Manifest> {
  const imageFolder = context.images.folder(imageId);
  const described = trees.map((tree) => ({
    ...tree,
    watchedPaths: readWatchedPaths(join(imageFolder, tree.folder)),
  }));
  const holders = described.flatMap(({ root, processes, namespaces, watchedPaths }) =>
    processes.map(({ pid }) => {
      const process: Process | null = readProcess(pid);
      if (!process)
        throw new SeamlessError('CHECKPOINT_FAILED', `Process ${pid} ended while it was being dumped`);
      return {
        process,
        mappings: readMappings(pid),
        hasOwnMounts: namespaces.includes('mnt'),
        watchedPaths: pid === root ? watchedPaths : [],
      };
    }),
  );
  assertUnchanged(
    holders.flatMap(({ process: now, mappings: mappedNow }) => {
      const before = found.snapshot.processes.get(now.pid);
      return before ? [{ before, mappedBefore: found.snapshot.mappings(now.pid), now, mappedNow }] : [];
    }),
    trees,
  );
  const manifest: Manifest = {
    version: MANIFEST_VERSION,
    imageId,
    vm: context.vm,
    templateId: context.templateId,
    criuVersion: context.criuVersion,
    network: found.network,
    trees: described,
    files: withAnswered(heldFiles(holders, found.snapshot.sockets), answeredFiles(answers)),
    listeners: withClients(
      found.set.listeners,
      holders.map(({ process }) => process),
      found.snapshot.sockets,
    ),
    lingering: lingeringConnections(bareAddresses(found.network)),
  };
  await writeFile(join(imageFolder, MANIFEST_FILE), JSON.stringify(manifest));
  return manifest;
}

/** After a commit that failed for some tree: those that are gone come back from their image, so that all run here again. */
async function bringBack(
  context: AgentContext,
  imageId: string,
  trees: readonly ProcessTree[],
): Promise<void> {
  const gone = trees.filter(({ processes }) => !processes.every(({ pid }) => isAlive(pid)));
  await restoreTrees(context, context.images.folder(imageId), gone, []);
}
