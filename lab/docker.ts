/**
 * A Docker daemon of its own for tests and labs, from Debian's docker.io: own data, socket, cgroups and network namespace, nothing
 * of the machine's network touched. All it starts is in that namespace or those cgroups, so that it can be ended by PID whatever happened.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cgroupsNamed, endProcesses, processesIn, removeCgroup, unmountBelow } from './leftovers.ts';
import { type RunningProcess, startProcess, waitUntilReady } from './processes.ts';

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

const READY_MS = 30_000;
const END_MS = 15_000;

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
  const cgroups = await cgroupsNamed(plan.cgroup);
  const find = () => processesIn(cgroups, [plan.netns]);
  await endProcesses({ find, whose: 'the Docker daemon', timeoutMs: END_MS });
  for (const folder of [plan.runDirectory, plan.dataRoot]) {
    await unmountBelow(folder, { itself: true });
    await rm(folder, { recursive: true, force: true });
  }
  for (const cgroup of cgroups) await removeCgroup(cgroup, END_MS);
}

/** Loaded only where it is used: it takes a quarter of a second. */
async function clientOf(plan: Pick<DockerPlan, 'runDirectory'>) {
  const { default: Docker } = await import('dockerode');
  return new Docker({ socketPath: dockerSocket(plan) });
}
