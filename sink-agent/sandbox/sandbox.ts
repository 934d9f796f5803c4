/**
 * The container of one sink: namespaces around a PID 1 that only reaps, a root tree over the template, a cgroup, a port.
 *
 * All its mounts live in its own mount namespace and go with it; what lasts on the host is the cgroup and the port, and both have
 * names that follow from the VM's. So it can be removed as a whole, also by an agent that did not make it.
 */
import { spawn } from 'node:child_process';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../../common/errors.ts';
import { GATE_PROGRAM } from '../../criu/gate.ts';
import type { NetworkIdentity } from '../../criu/manifest.ts';
import { LIMITS_LIBRARY } from '../../criu/run.ts';
import {
  createCgroup,
  enterCgroup,
  isPopulated,
  killCgroup,
  removeCgroup,
  type SinkCgroup,
} from './cgroup.ts';
import { createNetwork, removeNetwork } from './network.ts';
import { identify, type ProcessIdentity } from './process.ts';

/** The agent's folder inside a sink; its programs, images and cgroup are mounted there. */
export const AGENT_FOLDER = '/run/seamless-sink';
/** Programs that run inside a sink. */
const PROGRAMS = join(import.meta.dirname, '..', 'inside');
const READY_MS = 10_000;

export interface SandboxPlan {
  cgroup: SinkCgroup;
  port: string;
  templateRoot: string;
  /** Folder of this sink's images on the host. */
  images: string;
  /** An empty folder; each sink mounts there in its own namespace. */
  mountPoint: string;
  network: NetworkIdentity;
}

/** Makes the container; resolves with its PID 1 as the host numbers it. On failure nothing is left. */
export async function createSandbox(plan: SandboxPlan): Promise<ProcessIdentity> {
  await mkdir(plan.mountPoint, { recursive: true, mode: 0o700 });
  await mkdir(plan.images, { recursive: true, mode: 0o700 });
  await createCgroup(plan.cgroup);
  try {
    const init = await startInit(plan);
    await createNetwork(plan.port, init.pid, plan.network);
    return init;
  } catch (cause) {
    await removeSandbox(plan);
    throw cause;
  }
}

/** Ends every process of the container and removes what the host holds of it. Safe to repeat. */
export async function removeSandbox({ cgroup, port }: Pick<SandboxPlan, 'cgroup' | 'port'>): Promise<void> {
  const populated = await isPopulated(cgroup.path).catch(() => false);
  if (populated) await killCgroup(cgroup.path);
  await removeCgroup(cgroup.path);
  await removeNetwork(port);
}

/** argv that enters the container; a command follows. */
export function enter(init: ProcessIdentity): string[] {
  return ['nsenter', '--target', String(init.pid), '--mount', '--uts', '--ipc', '--net', '--pid', '--'];
}

/** The container's root tree as seen from the host. Symbolic links in it must not be followed from here. */
export function rootTree(init: ProcessIdentity): string {
  return `/proc/${init.pid}/root`;
}

async function startInit(plan: SandboxPlan): Promise<ProcessIdentity> {
  const { cgroup, templateRoot, mountPoint, images, network } = plan;
  const script = [
    join(PROGRAMS, 'enter-root.sh'),
    templateRoot,
    mountPoint,
    images,
    cgroup.path,
    PROGRAMS,
    GATE_PROGRAM,
    LIMITS_LIBRARY,
  ];
  const child = spawn(
    'unshare',
    ['--fork', '--pid', '--mount', '--net', '--uts', '--ipc', '--', ...script, network.hostname],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
      cwd: '/',
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    },
  );
  let output = '';
  const ready = new Promise<void>((resolve, reject) => {
    const failed = (how: string) =>
      reject(
        new SeamlessError(
          'COMMAND_FAILED',
          `The sink’s root tree could not be made: ${how}: ${output.trim()}`,
        ),
      );
    const timer = setTimeout(() => failed(`not ready in ${READY_MS} ms`), READY_MS);
    child.once('error', (error) => failed(error.message));
    child.once('exit', (code, signal) => failed(`unshare ended with ${code ?? signal}`));
    child.stderr.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString('utf8')).slice(-4000);
    });
    child.stdout.once('data', () => resolve());
    child.once('close', () => clearTimeout(timer));
  });
  const pid = child.pid;
  if (pid !== undefined) await enterCgroup(cgroup.helper, pid).catch(() => {}); // it failed already; `ready` says why
  await ready;
  const init = identify(Number(await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')));
  if (!init) throw new SeamlessError('COMMAND_FAILED', `The sink’s PID 1 ended at once: ${output.trim()}`);
  child.kill('SIGKILL'); // unshare only waits; PID 1 goes to the host's init
  return init;
}
