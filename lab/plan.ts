/**
 * Names and addresses of a lab: pure, so that `up`, `down` and `status` agree without asking each other.
 *
 *   NS-client ── prod0 ══ client0 ── br-int ══ qvo-VM/qvb-VM ── qbr-VM ── tap-VM ── QEMU      production 10.77.0.0/24, fd77::/64
 *                                   [NS-hv]                    br-mgmt ── mtap-VM ── QEMU     management 10.78.0.0/24
 *                                 vxlan0 ══ underlay 10.79.0.0/24 ══ vxlan0 ── br-int [NS-sink]
 *   NS-mgmt (orchestrator) ── br-mgmt ══ NS-hv, NS-sink
 */
import { join } from 'node:path';
import { SeamlessError } from '../common/errors.ts';
import type { DockerPlan } from './docker.ts';

export type HostName = 'client' | 'hv' | 'sink' | 'mgmt';
export const HOST_NAMES: readonly HostName[] = ['client', 'hv', 'sink', 'mgmt'];

export interface LabPlan {
  /** Everything that lives as long as the lab: sockets, logs, keys, configuration. */
  runDirectory: string;
  /** Disks and swap. */
  diskDirectory: string;
  /** Templates, shared by all labs. */
  cache: string;
  namespaces: Record<HostName, string>;
  /** Name of the lab's cgroup below each controller. */
  cgroup: string;
}

/** What QEMU needs to know. */
export interface MachinePlan {
  name: string;
  template: string;
  memoryMiB: number;
  directory: string;
  /** What the VM writes: a qcow2 file over the template's disk, or a folder over its tree. */
  disk: string;
  cgroup: string;
  production: { mac: string; addresses: readonly string[]; tap: string };
  management: { mac: string; address: string; tap: string };
}

export interface VmPlan extends MachinePlan {
  production: {
    mac: string;
    addresses: [string, string];
    tap: string;
    bridge: string;
    inner: string;
    port: string;
  };
}

export const CLIENT = { addresses: ['10.77.0.2/24', 'fd77::2/64'], mac: '52:54:00:77:01:02' } as const;
export const MANAGEMENT = { orchestrator: '10.78.0.1', sink: '10.78.0.2', hv: '10.78.0.3' } as const;
export const UNDERLAY = { hv: '10.79.0.1', sink: '10.79.0.2' } as const;
export const AGENT_PORT = 7443;
/** Of the service's page, in its network and on this machine. */
export const PAGE_PORT = 8443;
export const SINK_NAME = 'sink1';
export const TUNNEL_PORT = 'vxlan0';

/** Interface names have 15 characters; the longest prefix here takes five. */
const VM_NAME = /^[a-z][a-z0-9]{0,9}$/;
const LAB_NAME = /^[a-z][a-z0-9]{0,9}$/;
const MAX_VMS = 200;

/** @param name of a further lab beside the usual one (`SEAMLESS_LAB`); undefined or '' for the usual one. */
export function planLab(name: string | undefined, cache: string): LabPlan {
  if (name && !LAB_NAME.test(name))
    throw new SeamlessError(
      'REQUEST_INVALID',
      `expected SEAMLESS_LAB of up to ten letters and digits, got "${name}"`,
    );
  const prefix = name || 'sl';
  const suffix = name ? `-${name}` : '';
  return {
    runDirectory: `/run/seamless-lab${suffix}`,
    diskDirectory: join(cache, `lab${suffix}`),
    cache,
    namespaces: {
      client: `${prefix}-client`,
      hv: `${prefix}-hv`,
      sink: `${prefix}-sink`,
      mgmt: `${prefix}-mgmt`,
    },
    cgroup: `seamless${suffix}`,
  };
}

/** @param specs `NAME` or `NAME:TEMPLATE` each; the n-th gets the n-th address. */
export function planVms(lab: LabPlan, specs: readonly string[], memoryMiB: number): VmPlan[] {
  if (specs.length > MAX_VMS) throw new SeamlessError('REQUEST_INVALID', `expected at most ${MAX_VMS} VMs`);
  const vms = specs.map((spec, index) => {
    const [name = '', template = 'default', ...rest] = spec.split(':');
    if (!VM_NAME.test(name) || rest.length > 0)
      throw new SeamlessError(
        'REQUEST_INVALID',
        `expected --vm NAME[:TEMPLATE], the name of up to ten small letters and digits, got "${spec}"`,
      );
    return planVm(lab, name, template, index, memoryMiB);
  });
  const twice = vms.find((vm, index) => vms.findIndex((other) => other.name === vm.name) !== index);
  if (twice) throw new SeamlessError('REQUEST_INVALID', `expected each VM once, got ${twice.name} twice`);
  return vms;
}

/** What sinks are made in, unless a command says it: SEAMLESS_SINK. */
export function sinkRuntime(env: NodeJS.ProcessEnv): 'namespaces' | 'docker' {
  return env.SEAMLESS_SINK === 'docker' ? 'docker' : 'namespaces';
}

/** How the orchestrator reaches the hosts, unless a command says it: SEAMLESS_TRANSPORT. */
export function hostTransport(env: NodeJS.ProcessEnv): 'local' | 'ssh' {
  return env.SEAMLESS_TRANSPORT === 'ssh' ? 'ssh' : 'local';
}

/** The Docker daemon of the sink server, with `--sink docker`. */
export function planDocker(lab: LabPlan): DockerPlan {
  return {
    dataRoot: join(lab.diskDirectory, 'docker'),
    runDirectory: join(lab.runDirectory, 'docker'),
    netns: namespacePath(lab, 'sink'),
    cgroup: lab.cgroup,
  };
}

export function namespacePath(lab: LabPlan, host: HostName): string {
  return `/run/netns/${lab.namespaces[host]}`;
}

/** Where cgroup v1 keeps its memory controller; on v2 everything is in the one hierarchy. */
export const MEMORY_CGROUPS = '/sys/fs/cgroup/memory';
/** v2, where cgroups can be frozen; beside the v1 controllers it is mounted at `unified`. */
export const FREEZER_CGROUPS = '/sys/fs/cgroup/unified';

/** Names on the host's side of the cables that become a native VM's interfaces; as long as a tap's at most. */
export function nativeCables(name: string): { production: string; management: string } {
  return { production: `gtap-${name}`, management: `gmta-${name}` };
}

/** The v2 cgroup of a native VM's processes, where they can be frozen. */
export function nativeCgroup(lab: LabPlan, name: string): string {
  return join(FREEZER_CGROUPS, lab.cgroup, `vm-${name}`);
}

/** A QMP socket serves one client at a time: the first is the orchestrator's, the second for whoever looks. */
export function qmpSockets(vm: MachinePlan): [string, string] {
  return [join(vm.directory, 'qmp.sock'), join(vm.directory, 'monitor.sock')];
}

function planVm(lab: LabPlan, name: string, template: string, index: number, memoryMiB: number): VmPlan {
  const suffix = (index + 1).toString(16).padStart(2, '0');
  return {
    name,
    template,
    memoryMiB,
    directory: join(lab.runDirectory, name),
    disk: join(lab.diskDirectory, name),
    cgroup: join(MEMORY_CGROUPS, lab.cgroup, name),
    production: {
      mac: `52:54:00:77:00:${suffix}`,
      addresses: [`10.77.0.${11 + index}/24`, `fd77::${11 + index}/64`],
      tap: `tap-${name}`,
      bridge: `qbr-${name}`,
      inner: `qvb-${name}`,
      port: `qvo-${name}`,
    },
    management: { mac: `52:54:00:78:00:${suffix}`, address: `10.78.0.${11 + index}`, tap: `mtap-${name}` },
  };
}
