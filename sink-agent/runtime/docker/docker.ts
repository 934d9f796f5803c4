/**
 * Sinks as containers of Docker or Podman, which their tools show: `docker ps`, `stats`, `logs`.
 *
 * The engine makes the container, with PID 1, limits and labels, from the template's image; everything else is ours and the same as without
 * it: the port, the cgroup that the filter freezes, and the processes, which our CRIU restores into the container's namespaces. So a sink
 * goes on, and wakes, while the engine is away. Only a new one needs it.
 */
import { constants } from 'node:fs';
import { mkdir, open, readFile } from 'node:fs/promises';
import { SeamlessError } from '../../../common/errors.ts';
import { exec } from '../../../common/exec.ts';
import type { Log } from '../../../common/log.ts';
import type { SinkLimits } from '../../config.ts';
import { createCgroup, enterCgroup, type SinkCgroup } from '../../sandbox/cgroup.ts';
import { createNetwork } from '../../sandbox/network.ts';
import { identify, type ProcessIdentity } from '../../sandbox/process.ts';
import { AGENT_FOLDER, clearAway, enter } from '../../sandbox/sandbox.ts';
import type { SandboxPlan, SinkRuntime } from '../runtime.ts';
import { engineCgroup, limitingCgroups } from './cgroups.ts';
import { containerName, containerSpec, SERVER_LABEL } from './container-spec.ts';
import { connectDaemon } from './daemon.ts';
import { templateImages } from './images.ts';

export interface DockerOptions {
  /** The engine's. */
  socket: string;
  /** Name of the sink server. */
  server: string;
  limits: SinkLimits;
  log: Log;
}

export function dockerRuntime({ socket, server, limits, log }: DockerOptions): SinkRuntime {
  const daemon = connectDaemon(socket);
  const images = templateImages(daemon);

  const start = async (plan: SandboxPlan): Promise<{ id: string; init: ProcessIdentity }> => {
    const imageId = await images.ensure(plan.template);
    return daemon.ask(`start a container for ${plan.vm}`, async (docker) => {
      const spec = containerSpec(server, imageId, plan, limits);
      const container = await docker.createContainer(spec);
      await container.start();
      const { State, Image } = await container.inspect();
      if (Image !== imageId) {
        throw new SeamlessError(
          'TEMPLATE_MISMATCH',
          `Expected a container of image ${imageId}, got one of ${Image}`,
        );
      }
      const init = State.Running ? identify(State.Pid) : null;
      if (init) return { id: container.id, init };
      throw new SeamlessError('COMMAND_FAILED', `The container of ${plan.vm} ended at once: ${State.Error}`);
    });
  };

  /** Only one of ours: by that name there may be anything. */
  const removeContainer = async (vm: string): Promise<void> => {
    const name = containerName(server, vm);
    const present = await daemon.find(`show the container ${name}`, (docker) =>
      docker.getContainer(name).inspect(),
    );
    if (present === null) return;
    if (present.Config.Labels[SERVER_LABEL] !== server) {
      throw new SeamlessError(
        'COMMAND_FAILED',
        `Expected the container ${name} to be a sink of ${server}, got a stranger’s; rename it`,
      );
    }
    await daemon.ask(`remove the container ${name}`, (docker) =>
      docker
        .getContainer(present.Id)
        .remove({ force: true, v: true })
        .catch((error: { statusCode?: number }) => {
          if (error.statusCode !== 404) throw error; // somebody else was faster
        }),
    );
  };

  return {
    async create(plan) {
      await mkdir(plan.images, { recursive: true, mode: 0o700 });
      await removeContainer(plan.vm); // of a sink whose end the engine did not hear of
      try {
        const { id, init } = await start(plan);
        await expectOwnUsers(init);
        const cgroup = (await engineCgroup(init.pid, id)) ?? plan.cgroup;
        await furnish(init, cgroup);
        await createNetwork(plan.port, init.pid, plan.network);
        return { init, cgroup };
      } catch (cause) {
        await clearAway(plan);
        await removeContainer(plan.vm).catch((error: unknown) =>
          log.warn('docker.left', { vmId: plan.vm, error }),
        );
        throw cause;
      }
    },
    /** Its processes end without the engine, which is told when it is there; else at the next sink of that VM. */
    async remove(sink) {
      await clearAway(sink);
      await removeContainer(sink.vm).catch((error: unknown) =>
        log.warn('docker.left', { vmId: sink.vm, error }),
      );
    },
    limits: ({ pid }) => limitingCgroups(pid),
    note(init, line) {
      void say(init, line);
    },
  };
}

/** A rootless engine, or one with userns-remap, numbers users anew: CRIU could not restore the VM's. */
async function expectOwnUsers({ pid }: ProcessIdentity): Promise<void> {
  const [theirs, ours] = await Promise.all(
    [pid, 'self'].map((each) => readFile(`/proc/${each}/uid_map`, 'utf8')),
  );
  if (theirs === ours) return;
  throw new SeamlessError(
    'PREREQUISITE_MISSING',
    'Expected containers without a user namespace, got one; end userns-remap, or use an engine that runs as root',
  );
}

/** What the engine does not give a container: the sink's cgroup, /dev as in the VM, the kernel's settings. */
async function furnish(init: ProcessIdentity, cgroup: SinkCgroup): Promise<void> {
  await createCgroup(cgroup);
  await enterCgroup(cgroup.helper, init.pid);
  const inside = [...enter(init), `${AGENT_FOLDER}/programs/furnish-container.sh`];
  // What mounts cgroup2 sees the cgroup as its root that its namespace was made in.
  const script = 'echo 0 > "$1/cgroup.procs"; shift; exec unshare --cgroup -- "$@"';
  await exec(['sh', '-euc', script, 'sh', cgroup.path, ...inside]);
}

/** Into the container's log, by the standard output of its PID 1. A log that nobody reads must stop nothing: what does not fit is dropped. */
async function say({ pid }: ProcessIdentity, line: string): Promise<void> {
  try {
    const output = await open(`/proc/${pid}/fd/1`, constants.O_WRONLY | constants.O_NONBLOCK);
    await output.write(`${line}\n`).finally(() => output.close());
  } catch {
    // It has ended, or its log is full.
  }
}
