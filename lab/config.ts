/** The configuration files of the services in a lab: pure, from the plan. */
import { join } from 'node:path';
import { templatesDirectory } from '../template/store.ts';
import { dockerSocket } from './docker.ts';
import {
  databaseSocket,
  INTEGRATION_BRIDGE,
  openflowSocket,
  type SwitchHost,
  switchControlSocket,
} from './open-vswitch.ts';
import { credentialPaths } from './pki.ts';
import {
  AGENT_PORT,
  FREEZER_CGROUPS,
  type LabPlan,
  MANAGEMENT,
  namespacePath,
  PAGE_PORT,
  planDocker,
  SINK_NAME,
  TUNNEL_PORT,
  type VmPlan,
} from './plan.ts';
import type { SinkServerHost } from './sink-server.ts';
import type { LabState } from './state.ts';

/** Where systemd puts the credentials of the vm-agent's unit in the guest. */
const GUEST_CREDENTIALS = '/run/credentials/seamless-vm-agent.service';

/** How the orchestrator reaches each host, where that is not directly. */
export type HostTransports = Record<SwitchHost, { type: 'ssh'; [key: string]: unknown }>;

/** What a lab may be told beside its plan. */
export interface LabSettings {
  /** Path of the policy file, and how often the service asks. */
  policy?: string;
  sampleMs?: number;
  /** Folder of the templates' profiles. */
  profiles?: string;
  /** When a sink's memory goes to swap. */
  pageOutAfterMs?: number;
  /** The service also listens by TLS on the management network, for its page. */
  page?: boolean;
}

export function orchestratorConfig(
  lab: LabPlan,
  vms: readonly VmPlan[],
  accel: LabState['accel'] = 'tcg',
  commands: ReadonlyMap<string, readonly string[] | null> = new Map(),
  transports?: HostTransports,
  { policy, sampleMs, profiles, page }: LabSettings = {},
  sinkServer?: SinkServerHost,
) {
  const host = (name: SwitchHost) => ({
    name,
    transport: transports?.[name] ?? { type: 'local', netns: namespacePath(lab, name) },
    openflowSocket: openflowSocket(lab, name),
    ovsdbSocket: databaseSocket(lab, name),
    switchControl: switchControlSocket(lab, name),
    bridge: INTEGRATION_BRIDGE,
    // Several labs share one /run.
    ...(transports ? { runDir: join(lab.runDirectory, 'hosts', name) } : {}),
  });
  return {
    stateDir: join(lab.runDirectory, 'orchestrator'),
    socket: join(lab.runDirectory, 'seamless.sock'),
    tls: tls(lab, 'orchestrator'),
    ...(page ? { listen: listenForPage(lab) } : {}),
    // Without a hypervisor there is neither balloon nor guest memory to swap out.
    ...(accel === 'native' ? { switchOff: 'ram' } : {}),
    ...(policy === undefined ? {} : { policy }),
    ...(sampleMs === undefined ? {} : { sampleMs }),
    ...(profiles === undefined ? {} : { profiles }),
    hosts: [host('hv'), sinkServer ?? host('sink')],
    sinks: [
      {
        name: SINK_NAME,
        host: 'sink',
        agent: { address: MANAGEMENT.sink, port: AGENT_PORT, serverName: SINK_NAME },
        tunnelPort: TUNNEL_PORT,
      },
    ],
    vms: vms.map((vm) => ({
      ...suspendToDisk(lab, commands.get(vm.name)),
      name: vm.name,
      host: 'hv',
      mac: vm.production.mac,
      addresses: vm.production.addresses,
      port: vm.production.port,
      tunnelPort: TUNNEL_PORT,
      tap: vm.production.tap,
      qmpSocket: join(vm.directory, 'qmp.sock'),
      cgroup: vm.cgroup,
      agent: { address: vm.management.address, port: AGENT_PORT, serverName: vm.name },
      sink: SINK_NAME,
      template: vm.template,
    })),
  };
}

function listenForPage(lab: LabPlan) {
  const { cert, key } = tls(lab, 'orchestrator');
  return { address: MANAGEMENT.orchestrator, port: PAGE_PORT, tls: { cert, key } };
}

/** Only a VM with a hypervisor has memory that can go to a file. */
function suspendToDisk(lab: LabPlan, start: readonly string[] | null | undefined) {
  return start ? { suspendToDisk: { folder: join(lab.diskDirectory, 'saved'), start } } : {};
}

export function sinkAgentConfig(
  lab: LabPlan,
  sink: LabState['sink'] = 'namespaces',
  { pageOutAfterMs }: LabSettings = {},
) {
  return {
    name: SINK_NAME,
    listen: { address: MANAGEMENT.sink, port: AGENT_PORT },
    tls: tls(lab, SINK_NAME),
    templatesDir: templatesDirectory(lab.cache),
    stateDir: join(lab.runDirectory, 'sink'),
    cgroupRoot: join(FREEZER_CGROUPS, lab.cgroup),
    ...(pageOutAfterMs === undefined ? {} : { pageOutAfterMs }),
    ...(sink === 'docker' ? { runtime: { type: 'docker', socket: dockerSocket(planDocker(lab)) } } : {}),
  };
}

export function vmAgentConfig(vm: VmPlan) {
  return {
    vm: vm.name,
    listen: { address: vm.management.address, port: AGENT_PORT },
    tls: {
      ca: `${GUEST_CREDENTIALS}/seamless.ca.crt`,
      cert: `${GUEST_CREDENTIALS}/seamless.tls.crt`,
      key: `${GUEST_CREDENTIALS}/seamless.tls.key`,
    },
  };
}

function tls(lab: LabPlan, name: string) {
  return credentialPaths(join(lab.runDirectory, 'pki'), name);
}
