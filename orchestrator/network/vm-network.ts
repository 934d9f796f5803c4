/**
 * One VM's traffic, made real: the flows of `ovs/redirect.ts`, the sink's port in OVSDB, the packet buffer at its tap.
 *
 * The order within a function is what keeps a client from ever seeing an RST: nothing is led to a stack
 * before its sockets are there, or after they have gone.
 */
import { SeamlessError } from '../../common/errors.ts';
import type { Listener } from '../../criu/manifest.ts';
import type { VmPlacement } from '../../ovs/flows.ts';
import { addPort, deletePort } from '../../ovs/ovsdb/ports.ts';
import { probePath } from '../../ovs/path-probe.ts';
import { Redirect, type SynEvent } from '../../ovs/redirect.ts';
import { connectionPolicy, type SinkConfig, type VmConfig } from '../config.ts';
import { bufferSocket, PacketBuffer } from '../packet-buffer/packet-buffer.ts';
import { SynWatch } from '../packet-buffer/syn-watch.ts';
import type { VmNetwork } from '../sagas/ports.ts';
import type { HostLink } from './host-link.ts';
import { portsLeft } from './ports-left.ts';
import { findTapPlace } from './tap-place.ts';

export interface VmNetworkDeps {
  vm: VmConfig;
  sink: SinkConfig;
  vmHost: HostLink;
  sinkHost: HostLink;
  /** Path here of the packet-buffer program, which is put on the VM's host. */
  packetBuffer: string;
  /** Folder on the VM's host for the buffer's socket and log. */
  runDir: string;
  onSyn(syn: SynEvent): void;
}

export function vmNetwork(deps: VmNetworkDeps): VmNetwork & { depth(): Promise<number>; close(): void } {
  const { vm, sink, vmHost, sinkHost } = deps;
  // Shared with the redirect and the buffer, which read them at each use: they are known only after a scan.
  const heldTcpPorts: number[] = [];
  const healthChecks: string[] = [];
  let connections: NonNullable<VmPlacement['connections']> = [];
  const configured = connectionPolicy(vm);
  const holdPorts = (listeners: readonly Listener[], policy = configured) => {
    const { acceptPorts } = policy;
    const ports = listeners
      .filter(({ protocol, port }) => protocol === 'tcp' && !acceptPorts.includes(port))
      .map(({ port }) => port);
    heldTcpPorts.splice(0, heldTcpPorts.length, ...new Set(ports));
    healthChecks.splice(0, healthChecks.length, ...policy.healthChecks);
    connections = listeners.flatMap(({ port, clients = [] }) => clients.map((client) => ({ port, client })));
  };
  const placement = (sinkPort: string) => ({
    vmName: vm.name,
    mac: vm.mac,
    vmBridge: vmHost.openflow,
    sinkBridge: sinkHost.openflow,
    vmDatapath: vmHost.datapath,
    sinkDatapath: sinkHost.datapath,
    ports: { vm: vm.port, vmTunnel: vm.tunnelPort, sinkTunnel: sink.tunnelPort, sink: sinkPort },
  });
  const redirect = (sinkPort: string) =>
    new Redirect({ ...placement(sinkPort), heldTcpPorts, connections, healthChecks });
  const endSyns = redirect('').onSyn(deps.onSyn);
  const watch = new SynWatch(vmHost.transport, bufferSocket(deps.runDir, vm.name), (packet) => {
    const { source, sourcePort, destination, port } = packet;
    const addresses = { source, sourcePort, destination, port };
    deps.onSyn({ vmName: vm.name, mac: vm.mac, ...addresses, at: new Date() });
  });
  const left = portsLeft(sinkHost, async (sinkPort) => {
    await deletePort(await sinkHost.ovsdb(), sinkHost.bridge, sinkPort);
    await redirect(sinkPort).closeSink();
  });
  let buffer: Promise<PacketBuffer> | null = null;
  const buffered = () => {
    buffer ??= openBuffer(deps, heldTcpPorts, healthChecks).catch((error) => {
      buffer = null;
      throw error;
    });
    return buffer;
  };

  return {
    async reachable() {
      await Promise.all([vmHost, sinkHost].map(({ openflow }) => openflow.connection()));
    },
    async hold() {
      await (await buffered()).arm();
    },
    async release() {
      const packets = await buffered();
      // No daemon: it was released and taken down before, and only the rules may be left.
      const status = await packets.status().catch(() => null);
      const released = status ? await packets.release() : null;
      await packets.disarm();
      return status?.mode === 'pass' ? null : released;
    },
    async divert() {
      const packets = await buffered();
      const { held } = await packets.divert();
      // From here on only connection requests come: each wakes, also where the switch's own word of it is lost.
      await watch.start();
      return held;
    },
    async plug(sinkPort) {
      await left.settled(sinkPort);
      const flows = redirect(sinkPort);
      // Before the port is there and after: nobody reaches it, and it reaches nobody, until `toSink`.
      await flows.closeSink();
      await addPort(await sinkHost.ovsdb(), sinkHost.bridge, sinkPort);
      await flows.closeSink();
    },
    async probe(sinkPort, { interfaces }) {
      const same = interfaces.find(({ mac }) => mac.toLowerCase() === vm.mac.toLowerCase());
      const [address] = same?.addresses ?? [];
      if (!same || !address) {
        const got = interfaces.map(({ name, mac }) => `${name} ${mac}`).join(', ') || 'none';
        throw new SeamlessError(
          'CONFIG_INVALID',
          `Expected ${vm.name} to have an interface ${vm.mac} with an address, got ${got}; set the VM’s \`mac\` in the configuration to its interface’s`,
        );
      }
      await probePath({
        ...placement(sinkPort),
        address: address.replace(/\/.*/, ''),
        mtu: same.mtu,
      });
    },
    unplug: (sinkPort) => left.unplug(sinkPort),
    async shut(sinkPort) {
      await redirect(sinkPort).closeSink();
    },
    async toSink(sinkPort, listeners, policy) {
      holdPorts(listeners, policy);
      await redirect(sinkPort).toSink();
    },
    async toVm(sinkPort) {
      const packets = await buffered();
      // It may still divert stragglers of a moment ago: what the flip brings must wait, not go round.
      const holding = packets.hold().catch(() => packets.arm());
      await redirect(sinkPort).toVm(holding.then(() => watch.stop()));
    },
    async leadsTo(sinkPort, listeners, policy) {
      holdPorts(listeners, policy);
      return (await redirect(sinkPort).stateOnVmBridge()) === 'parked' ? 'sink' : 'vm';
    },
    async held() {
      const packets = await buffered();
      await watch.start();
      return packets.held();
    },
    depth: async () => (buffer ? (await (await buffer).status()).held : 0),
    sent: (sinkPort) => redirect(sinkPort).sent(),
    close() {
      endSyns();
      watch.stop();
      buffer?.then((packets) => packets.close()).catch(() => {});
    },
  };
}

async function openBuffer(
  deps: VmNetworkDeps,
  heldTcpPorts: readonly number[],
  healthChecks: readonly string[],
): Promise<PacketBuffer> {
  const { vm, vmHost, runDir } = deps;
  const { transport } = vmHost;
  const place = await findTapPlace(transport, vm.tap);
  if (place.queue > 65535) {
    throw new SeamlessError('HOST_UNREACHABLE', `Expected an interface index up to 65535 for ${vm.tap}`);
  }
  await transport.run(['mkdir', '-p', '-m', '0700', runDir]);
  return new PacketBuffer({
    host: transport,
    program: await transport.install(deps.packetBuffer),
    vm: vm.name,
    mac: vm.mac,
    tap: vm.tap,
    ...place,
    runDir,
    heldTcpPorts,
    healthChecks,
  });
}
