/** Everything of one VM, put together: its agent, QMP, cgroup, network, the sagas over them, and its driver. */
import { join } from 'node:path';
import type { Log } from '../common/log.ts';
import { compileProfile } from '../profiles/compile.ts';
import { readProfile } from '../profiles/profile.ts';
import type { SinkAgentApi, SinkAgentEvent } from '../sink-agent/api.ts';
import type { VmAgentApi } from '../vm-agent/api.ts';
import { createRpcClient, type RpcClient } from '../wire/rpc-client.ts';
import type { TlsMaterial } from '../wire/tls.ts';
import { peerName } from './agents/peer-name.ts';
import type { ManagedVm } from './api/vms.ts';
import { type Config, type SinkConfig, type VmConfig } from './config.ts';
import { memoryCgroup } from './hypervisor/memory-cgroup.ts';
import { Qmp } from './hypervisor/qmp.ts';
import type { ReportSource } from './idle/collector.ts';
import { healthChecksOf, parkSettings, switchOffOf } from './idle/overlay.ts';
import type { Policy } from './idle/policy/policy.ts';
import { reportSource } from './idle/report-source.ts';
import type { HostMemoryBook } from './memory/host-memory.ts';
import { paceOf } from './memory/pace.ts';
import { vmMemory } from './memory/vm-memory.ts';
import type { HostLink } from './network/host-link.ts';
import { vmNetwork } from './network/vm-network.ts';
import type { Cloud } from './openstack/cloud.ts';
import { novaSwitchOff } from './openstack/nova-switch-off.ts';
import type { VmOpenStackConfig } from './openstack/openstack-config.ts';
import type { Journal } from './saga/journal.ts';
import { parkSaga } from './sagas/park.ts';
import type { Ports } from './sagas/ports.ts';
import { unparkSaga } from './sagas/unpark.ts';
import { switchOffBy, switchOffFor } from './suspend/methods.ts';
import { switchOffMethods } from './suspend/of-vm.ts';
import { VmDriver } from './vm/driver.ts';
import type { Move } from './vm/driver-deps.ts';
import { HypervisorWatch } from './vm/hypervisor-watch.ts';
import { synWake } from './vm/wake.ts';
import { unparkState, WakeWatch } from './vm/wake-watch.ts';

export interface ManagedVmDeps {
  config: Config;
  vm: VmConfig;
  sink: SinkConfig;
  vmHost: HostLink;
  /** The book of the VM's host. */
  memory: HostMemoryBook;
  sinkHost: HostLink;
  sinkAgent: RpcClient<SinkAgentApi, SinkAgentEvent>;
  tls: TlsMaterial;
  /** Null when there is no OpenStack. */
  cloud: Cloud | null;
  journal: Journal;
  log: Log;
  /** What the policy says of the VM now; null without one. */
  policy(): Policy | null;
  /** Told of each new state of the VM. */
  onMove(move: Move): void;
  onFatal(error: unknown): void;
}

/** Besides: where idle detection asks, and the VM's life in this process. */
export interface RunningVm extends ManagedVm {
  agent: RpcClient<VmAgentApi>;
  source: ReportSource;
  start(): void;
  close(): void;
}

export function manageVm(deps: ManagedVmDeps): RunningVm {
  const { config, vm, sink, vmHost, journal } = deps;
  const log = deps.log.with({ vmId: vm.name });
  const { address, port } = vm.agent;
  const serverName = peerName('vm-agent', vm.agent.serverName);
  const vmAgent = createRpcClient<VmAgentApi>({ address, port, peer: serverName, tls: deps.tls });
  const cgroup = memoryCgroup(vmHost.transport, vm.cgroup, paceOf(vmHost.transport));
  const qmp = new Qmp({
    name: vm.name,
    connect: (signal) => vmHost.transport.connect(vm.qmpSocket, signal),
    onEvent: (event) => log.debug('qmp', { event }),
  });
  const network = vmNetwork({
    vm,
    sink,
    vmHost,
    sinkHost: deps.sinkHost,
    packetBuffer: config.packetBuffer ?? join(import.meta.dirname, '../build/packet-buffer'),
    runDir: runDirOf(config, vm.host),
    onSyn: (syn) => driver.wake(synWake(syn)),
  });
  const profiles = config.profiles ?? join(import.meta.dirname, '../profiles');
  const profile = () => compileProfile(readProfile(join(profiles, `${vm.template}.yaml`)));
  const rehearse = (signal: AbortSignal) =>
    deps.sinkAgent.call('rehearse', { vm: vm.name }, { signal, timeoutMs: 60_000 });
  const runDir = runDirOf(config, vm.host);
  const { cloud, memory } = deps;
  /** Then its QEMU is Nova’s, and nobody else may watch it or judge by it. */
  const byNova = config.switchOff === 'nova' && cloud !== null && vm.openstack !== undefined;
  const power =
    byNova && cloud && vm.openstack
      ? novaSwitchOff({
          ...{ vm: vm.name, serverId: vm.openstack.serverId, log },
          ...{ nova: cloud.nova, requests: cloud.requests },
          how: config.openstack?.switchOff ?? 'suspend',
        })
      : switchOffBy({
          ...{ vm: vm.name, memory, log },
          methods: switchOffMethods({
            ...{ vm, host: vmHost.transport, qmp, cgroup, vmAgent, rehearse, runDir, memory, log },
            suspendToSwap: config.suspendToSwap,
          }),
          choose: () => switchOffFor(config, vm, switchOffOf(deps.policy())),
        });
  memory.join({
    vm: vm.name,
    memory: vmMemory({ vm: vm.name, qmp, cgroup, journal, isAsleep: () => driver.state.kind === 'parked' }),
  });
  const outside = cloud && vm.openstack ? serverOf(cloud, vm.host, vm.openstack) : undefined;
  /** The sink first, since it is what answers; the rest is in nobody’s way. */
  const forgetSink = async (sinkPort: string | null) => {
    await deps.sinkAgent.call('destroy', { vm: vm.name, force: true }, { timeoutMs: 10_000 });
    const left = (error: unknown) => log.warn('gone.flowsLeft', { error });
    if (sinkPort) await network.toVm(sinkPort).catch(left);
    if (sinkPort) await network.unplug(sinkPort).catch(left);
    await network.release().catch(left);
  };
  const ports: Ports = {
    vm: vm.name,
    sinkServer: sink.name,
    vmAgentAddress: { address, port, serverName },
    settings: () => parkSettings(vm, deps.policy()),
    profile,
    vmAgent,
    sinkAgent: deps.sinkAgent,
    network,
    power,
  };
  const persist = config.persistMs === undefined ? {} : { persistMs: config.persistMs };
  const driver = new VmDriver({
    vm: vm.name,
    journal,
    log,
    park: { ...parkSaga(ports), ...persist },
    unpark: { ...unparkSaga(ports), ...persist },
    held: () => network.held(),
    sink: () => deps.sinkAgent.call('status', { vm: vm.name }),
    reassert: ({ sinkPort, listeners, connections }) => network.toSink(sinkPort, listeners, connections),
    outside: outside && { ...outside, forget: (sinkPort) => forgetSink(sinkPort) },
    hypervisorLost: () => hypervisor.loss !== null,
    hostLost: () => vmHost.reachability.loss,
    sinkHostLost: () => deps.sinkHost.reachability.loss,
    watch: new WakeWatch({
      ...{ vm: vm.name, journal, log },
      usage: (asked) => vmAgent.call('usage', asked, { timeoutMs: 10_000 }),
      sent: async () => (await network.sent('')).vm,
      ...(config.wakeWatchMs === undefined ? {} : { windowMs: config.wakeWatchMs }),
    }),
    onMove: (move) => {
      // The wake will use these connections, and nobody answers a handshake in a paused VM.
      if (move.state === 'parking')
        warm(vmAgent).catch((error) => log.debug('vmAgent.unreachable', { error }));
      deps.onMove(move);
    },
    onFatal: deps.onFatal,
  });
  const hypervisor = new HypervisorWatch({
    ...{ vm: vm.name, qmp, journal, log },
    turn: (signal) => vmHost.turns.take(signal),
    state: () => driver.state.kind,
    hostLost: () => vmHost.reachability.loss !== null,
    away: power.away,
    onBack: () => driver.retryWake(),
  });
  vmHost.onUp(() => driver.retryWake());
  deps.sinkHost.onUp(() => driver.lookAgain());

  return {
    config: vm,
    driver,
    hypervisor,
    residentBytes: () => cgroup.resident(),
    bufferDepth: () => network.depth(),
    qemuStatus: async () =>
      (await power.away())
        ? 'saved'
        : byNova
          ? 'running'
          : (await qmp.execute<{ status: string }>('query-status')).status,
    agent: vmAgent,
    scan: () => vmAgent.call('scan', { programs: [...parkSettings(vm, deps.policy()).programs] }),
    observe: (seconds) =>
      vmAgent.call('observe', { seconds, allow: profile() }, { timeoutMs: (seconds + 30) * 1000 }),
    source: reportSource({
      ...{ vm, bridge: vmHost.openflow, vmAgent, qmp },
      healthChecks: () => healthChecksOf(vm, deps.policy()),
      programs: () => deps.policy()?.gateways ?? [],
    }),
    start() {
      const last = journal.lastSaga(vm.name, 'unpark');
      const portLeft = last === null ? undefined : unparkState(journal.ofSaga(last)).portLeft;
      if (portLeft !== undefined && driver.state.kind === 'awake')
        network.unplug(portLeft).catch((error) => log.info('tidy.later', { error }));
      driver.start();
      if (!byNova) hypervisor.start();
    },
    close() {
      driver.stop();
      hypervisor.stop();
      network.close();
      qmp.close();
      vmAgent.close();
    },
  };
}

/** What the VM is to Nova. */
function serverOf({ nova }: Cloud, host: string, { serverId, host: home = host }: VmOpenStackConfig) {
  return { id: serverId, home, isGone: async () => (await nova.server(serverId)) === null };
}

/** Two, because a wake makes two calls at once. */
async function warm(agent: RpcClient<VmAgentApi>): Promise<void> {
  await Promise.all([agent.call('describe', {}), agent.call('describe', {})]);
}

function runDirOf({ stateDir, hosts }: Config, name: string): string {
  const host = hosts.find((each) => each.name === name);
  if (host?.runDir) return host.runDir;
  return host?.transport.type === 'ssh' ? '/run/seamless' : join(stateDir, 'hosts', name);
}
