/**
 * A Docker daemon of its own for tests and labs, from Debian's docker.io: own data, socket, cgroups and network namespace, nothing
 * of the machine's network touched. All it starts is in that namespace or those cgroups, so that it can be ended by PID whatever happened.
 */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import { type RunningProcess, readStartTime, startProcess, waitUntilReady } from './processes.ts';

export interface DockerPlan {
  /** Images and containers; on a disk. */
  dataRoot: string;
  /** Socket, log, state. */
  runDirectory: string;
  /** Path of the network namespace that the daemon runs in, and nobody else whom `endDocker` must spare. */
  netns: string;
  /** Name below each cgroup controller. */
  cgroup: string;
}

const CGROUPS = '/sys/fs/cgroup';
const READY_MS = 30_000;
const END_MS = 15_000;
const POLL_MS = 20;

export function dockerSocket({ runDirectory }: Pick<DockerPlan, 'runDirectory'>): string {
  return join(runDirectory, 'docker.sock');
}

/** Starts the daemon; resolves when it answers. Its containers outlive it, as `live-restore` says. */
export async function startDocker(
  plan: DockerPlan,
  signal: AbortSignal,
  started: (process: RunningProcess) => void = () => {},
): Promise<RunningProcess> {
  const { dataRoot, runDirectory, netns, cgroup } = plan;
  await mkdir(dataRoot, { recursive: true, mode: 0o700 });
  await mkdir(runDirectory, { recursive: true, mode: 0o700 });
  const log = join(runDirectory, 'dockerd.log');
  const running = startProcess({
    name: 'dockerd',
    argv: [
      'dockerd',
      `--data-root=${dataRoot}`,
      `--exec-root=${join(runDirectory, 'exec')}`,
      `--pidfile=${join(runDirectory, 'docker.pid')}`,
      `--host=unix://${dockerSocket(plan)}`,
      `--cgroup-parent=/${cgroup}`,
      ...['--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-forward=false', '--live-restore'],
    ],
    netns,
    log,
  });
  started(running);
  const docker = await clientOf(plan);
  const probe = () =>
    docker.ping().then(
      () => true,
      () => false,
    );
  await waitUntilReady({ running, log, timeoutMs: READY_MS, signal, probe });
  return running;
}

/** Lets a daemon that still answers remove its containers, which leaves less behind than ending them. */
export async function removeContainers(plan: Pick<DockerPlan, 'runDirectory'>): Promise<void> {
  const docker = await clientOf(plan);
  const containers = await docker.listContainers({ all: true }).catch(() => []); // ended by PID then
  for (const { Id } of containers)
    await docker
      .getContainer(Id)
      .remove({ force: true })
      .catch(() => {});
}

/** Ends the daemon with everything that it has started, whatever state it is in; `dataRoot` and `runDirectory` are removed. */
export async function endDocker(plan: DockerPlan): Promise<void> {
  await removeContainers(plan);
  await endAll(plan);
  for (const folder of [plan.runDirectory, plan.dataRoot]) {
    await unmountBelow(folder);
    await rm(folder, { recursive: true, force: true });
  }
  for (const hierarchy of await cgroupHierarchies()) await removeTree(join(hierarchy, plan.cgroup));
}

/** Loaded only where it is used: it takes a quarter of a second. */
async function clientOf(plan: Pick<DockerPlan, 'runDirectory'>) {
  const { default: Docker } = await import('dockerode');
  return new Docker({ socketPath: dockerSocket(plan) });
}

async function endAll(plan: DockerPlan): Promise<void> {
  const deadline = performance.now() + END_MS;
  for (;;) {
    const left = (await processesOf(plan)).filter((pid) => readStartTime(pid) !== null);
    if (left.length === 0) return;
    if (performance.now() > deadline)
      throw new SeamlessError('TIMEOUT', `processes ${left.join(', ')} of the Docker daemon don’t end`);
    for (const pid of left) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // gone in between
      }
    }
    await sleep(POLL_MS);
  }
}

async function processesOf({ netns, cgroup }: DockerPlan): Promise<number[]> {
  const pids: string[] = [];
  const name = netns.slice(netns.lastIndexOf('/') + 1);
  if (existsSync(netns)) pids.push(...(await exec(['ip', 'netns', 'pids', name])).stdout.split('\n'));
  for (const hierarchy of await cgroupHierarchies())
    for (const folder of await treeOf(join(hierarchy, cgroup)))
      pids.push(...(await readFile(join(folder, 'cgroup.procs'), 'utf8').catch(() => '')).split('\n'));
  return [...new Set(pids)].filter((pid) => pid !== '').map(Number);
}

/** Where cgroups are mounted: one hierarchy, or one per controller of v1 and v2 beside them. */
export async function cgroupHierarchies(): Promise<string[]> {
  if (existsSync(join(CGROUPS, 'cgroup.controllers'))) return [CGROUPS];
  return (await readdir(CGROUPS)).map((name) => join(CGROUPS, name));
}

/** The cgroup and all below it, deepest first. */
async function treeOf(cgroup: string): Promise<string[]> {
  const entries = await readdir(cgroup, { withFileTypes: true }).catch(() => null);
  if (entries === null) return [];
  const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(cgroup, name));
  return [...(await Promise.all(folders.map(treeOf))).flat(), cgroup];
}

async function removeTree(cgroup: string): Promise<void> {
  const deadline = performance.now() + END_MS;
  for (const folder of await treeOf(cgroup))
    for (;;) {
      try {
        await rmdir(folder);
        break;
      } catch (error) {
        // A process that has just ended is still counted for a moment.
        if ((error as NodeJS.ErrnoException).code !== 'EBUSY' || performance.now() > deadline) throw error;
        await sleep(POLL_MS);
      }
    }
}

/** The daemon mounts its data on itself, and each container's tree and network below. */
async function unmountBelow(folder: string): Promise<void> {
  const { stdout } = await exec(['findmnt', '--noheadings', '--raw', '--output', 'TARGET']);
  const below = stdout.split('\n').filter((target) => target === folder || target.startsWith(`${folder}/`));
  for (const target of below.reverse()) await exec(['umount', '--lazy', target]);
}
