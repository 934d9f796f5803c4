/**
 * Sinks in namespaces of our own making: around a PID 1 that only reaps, with a root tree over the template.
 * All its mounts live in its own mount namespace and go with it, so that nothing can be left behind.
 */
import { spawn } from 'node:child_process';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../../common/errors.ts';
import { GATE_PROGRAM } from '../../criu/gate.ts';
import { LIMITS_LIBRARY } from '../../criu/run.ts';
import type { SinkLimits } from '../config.ts';
import { createCgroup, enterCgroup } from '../sandbox/cgroup.ts';
import { limitCgroup } from '../sandbox/limits.ts';
import { createNetwork } from '../sandbox/network.ts';
import { identify, type ProcessIdentity } from '../sandbox/process.ts';
import { clearAway, PROGRAMS } from '../sandbox/sandbox.ts';
import type { SandboxPlan, SinkRuntime } from './runtime.ts';

const READY_MS = 10_000;

/** @param mountPoint an empty folder, made here; each sink mounts there in its own namespace. */
export function namespacesRuntime(mountPoint: string, limits: SinkLimits): SinkRuntime {
  return {
    async create(plan) {
      const { cgroup } = plan;
      await mkdir(mountPoint, { recursive: true, mode: 0o700 });
      await mkdir(plan.images, { recursive: true, mode: 0o700 });
      await createCgroup(cgroup);
      try {
        await limitCgroup(cgroup, limits);
        const init = await startInit(plan, mountPoint);
        await createNetwork(plan.port, init.pid, plan.network);
        return { init, cgroup };
      } catch (cause) {
        await clearAway(plan);
        throw cause;
      }
    },
    remove: clearAway,
    limits: async () => [],
    note() {},
  };
}

async function startInit(
  { cgroup, template, images, network }: SandboxPlan,
  mountPoint: string,
): Promise<ProcessIdentity> {
  const script = [
    join(PROGRAMS, 'enter-root.sh'),
    template.root,
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
