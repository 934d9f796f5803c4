/**
 * What sinks are made in. Above this seam nobody knows which runtime it is: CRIU, the syscall filter, the freezer, the port and the
 * packets that go back work on a PID 1, whose namespaces they enter, and on a cgroup (v2).
 *
 * The way back of a sink needs nothing of its runtime, only the kernel: it must not wait for a daemon.
 */
import type { NetworkIdentity } from '../../criu/manifest.ts';
import type { SinkCgroup } from '../sandbox/cgroup.ts';
import type { ProcessIdentity } from '../sandbox/process.ts';
import type { SinkTemplate } from '../templates.ts';

export interface SandboxPlan {
  vm: string;
  template: SinkTemplate;
  /** Where the sink's cgroup is, unless the runtime has one of its own. */
  cgroup: SinkCgroup;
  /** The host's end of its network. */
  port: string;
  /** Folder of this sink's images on the host. */
  images: string;
  network: NetworkIdentity;
}

export interface Sandbox {
  /** PID 1, which reaps. */
  init: ProcessIdentity;
  cgroup: SinkCgroup;
}

export interface SinkRuntime {
  /** Makes the container. On failure nothing is left. */
  create(plan: SandboxPlan): Promise<Sandbox>;
  /** Ends every process of the container and removes what the host holds of it; Safe to repeat. */
  remove(sink: Pick<SandboxPlan, 'vm' | 'cgroup' | 'port'>): Promise<void>;
  /** Further cgroups (v1, one per controller) in which the processes of the container must be born, so that its limits hold for them. */
  limits(init: ProcessIdentity): Promise<string[]>;
  /** A line for whoever looks at the container with the runtime's own tools. Never fails, never waits. */
  note(init: ProcessIdentity, line: string): void;
}
