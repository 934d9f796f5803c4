/**
 * Points one VM's traffic at the VM or at its sink: one atomic bundle per bridge, which deletes the VM's flows by
 * their cookie and adds those of the new state. Every operation means *ensure*: it may be repeated, and interrupted
 * between the two bridges.
 *
 * The order of the bridges is part of the promise. Towards the sink: its port opens first, then the VM's bridge
 * flips, so that no packet finds a closed door. Towards the VM: its bridge flips first, then the sink's port closes,
 * so that nothing can reach the sink's stack once its sockets are gone.
 */
import { SeamlessError } from '../common/errors.ts';
import type { DatapathControl } from './datapath.ts';
import {
  cookieOf,
  ownFlows,
  type RedirectState,
  sinkBridgeFlows,
  type VmPlacement,
  vmBridgeFlows,
} from './flows.ts';
import { commitBundle, fillBundle } from './openflow/bundle.ts';
import type { OpenFlowConnection } from './openflow/connection.ts';
import { added, type FlowChange, type FlowSpec } from './openflow/flow-mod.ts';
import type { KeptConnection } from './openflow/kept-connection.ts';
import { portNumbers, readFlows, readPortCounters, readPorts } from './openflow/multipart.ts';
import { parseSyn, type TcpSyn } from './syn.ts';

export interface RedirectOptions extends VmPlacement {
  vmBridge: KeptConnection;
  sinkBridge: KeptConnection;
  /** Port names; numbers are looked up at each operation, because a port that is made again gets a new one. */
  ports: {
    vm: string;
    vmTunnel: string;
    sinkTunnel: string;
    sink: string;
  };
  /**
   * The control of the ovs-vswitchd on each side. With it a change is effective when an operation
   * resolves; without it a few milliseconds later. Closing the sink's port needs the sink's.
   */
  vmDatapath?: DatapathControl;
  sinkDatapath?: DatapathControl;
  /** Milliseconds for each wait on a switch; 5 s unless told. */
  timeoutMs?: number;
}

/** Milliseconds that each bridge took, and both together. */
export interface RedirectTiming {
  vmBridgeMs: number;
  sinkBridgeMs: number;
  totalMs: number;
}

/** A connection request that is held for a parked VM. */
export interface SynEvent extends TcpSyn {
  vmName: string;
  mac: string;
  /** When the packet-in arrived here. */
  at: Date;
}

/** What has been sent into the network since a port was made. */
export interface SentCount {
  packets: number;
  bytes: number;
}

export class Redirect {
  readonly #vm: RedirectOptions;

  constructor(options: RedirectOptions) {
    this.#vm = options;
  }

  /** Parked: the sink receives and speaks, connection requests to held ports are held. */
  async toSink(): Promise<RedirectTiming> {
    return this.#timed(['sink', 'vm'], 'parked');
  }

  /**
   * Awake: the VM receives; the sink's port is closed in both directions when this resolves.
   * @param first what must have come about before anything changes; the switches are asked meanwhile
   */
  async toVm(first?: Promise<unknown>): Promise<RedirectTiming> {
    return this.#timed(['vm', 'sink'], 'awake', first);
  }

  /** Closes the sink's port and sends what is for the VM to the VM's bridge; needed before a sink's port exists, too. */
  async closeSink(): Promise<void> {
    await (await this.#sinkChange('awake'))();
  }

  /** Deletes the VM's flows on both bridges: it is not managed any more. */
  async remove(): Promise<void> {
    const { vmBridge, sinkBridge } = this.#vm;
    const deletion = [this.#deletion()];
    await Promise.all(
      [vmBridge, sinkBridge].map(async (bridge) => commitBundle(await this.#open(bridge), deletion)),
    );
  }

  /** What the VM's bridge has now, or undefined when its flows are neither state's (a restarted switch has none). */
  async stateOnVmBridge(): Promise<RedirectState | undefined> {
    const bridge = await this.#open(this.#vm.vmBridge);
    const ports = await this.#vmPorts(bridge);
    const flows = await readFlows(bridge, ownFlows(this.#vm.vmName));
    const there = flows.map(fingerprint).sort().join();
    return (['awake', 'parked'] as const).find(
      (state) => vmBridgeFlows(this.#vm, state, ports).map(fingerprint).sort().join() === there,
    );
  }

  /** What has come from the VM's port and from the sink's so far; null for a port that is not there. */
  async sent(): Promise<{ vm: SentCount | null; sink: SentCount | null }> {
    const { vmBridge, sinkBridge, ports } = this.#vm;
    const [vm, sink] = await Promise.all([
      this.#cameFrom(vmBridge, ports.vm),
      this.#cameFrom(sinkBridge, ports.sink),
    ]);
    return { vm, sink };
  }

  /** Calls `listener` for each held connection request; returns the function that ends it. */
  onSyn(listener: (event: SynEvent) => void): () => void {
    const cookie = cookieOf(this.#vm.vmName);
    return this.#vm.vmBridge.onPacketIn((packet) => {
      if (packet.cookie !== cookie) return;
      const syn = parseSyn(packet.data);
      if (syn) listener({ vmName: this.#vm.vmName, mac: this.#vm.mac, ...syn, at: new Date() });
    });
  }

  async #cameFrom(kept: KeptConnection, name: string): Promise<SentCount | null> {
    const bridge = await this.#open(kept);
    const [ports, counters] = await Promise.all([readPorts(bridge), readPortCounters(bridge)]);
    const port = ports.find((candidate) => candidate.name === name);
    const found = counters.find(({ number }) => number === port?.number);
    return found ? { packets: found.packets, bytes: found.bytes } : null;
  }

  async #timed(
    order: readonly ('vm' | 'sink')[],
    state: RedirectState,
    first?: Promise<unknown>,
  ): Promise<RedirectTiming> {
    const ms = { vm: 0, sink: 0 };
    // Both are asked and told at once; that the changes take effect keeps its order.
    const changes = { vm: this.#vmChange(state), sink: this.#sinkChange(state) };
    for (const change of Object.values(changes)) change.catch(() => {}); // heard where it is waited for
    await first;
    // Where one switch can't be asked the sink's port must not be open for nothing.
    if (state === 'parked') await Promise.all(Object.values(changes));
    for (const where of order) {
      const start = performance.now();
      await (await changes[where])();
      ms[where] = performance.now() - start;
    }
    return { vmBridgeMs: ms.vm, sinkBridgeMs: ms.sink, totalMs: ms.vm + ms.sink };
  }

  /** Gives the function that makes the change. */
  async #vmChange(state: RedirectState): Promise<() => Promise<void>> {
    const bridge = await this.#open(this.#vm.vmBridge);
    const flows = vmBridgeFlows(this.#vm, state, await this.#vmPorts(bridge));
    return this.#replacement(bridge, flows, this.#vm.vmDatapath);
  }

  async #sinkChange(state: RedirectState): Promise<() => Promise<void>> {
    const bridge = await this.#open(this.#vm.sinkBridge);
    const { sink, sinkTunnel } = this.#vm.ports;
    const numbers = await portNumbers(bridge, [sinkTunnel], [sink]);
    const sinkPort = numbers[sink];
    if (state === 'parked' && sinkPort === undefined) {
      throw new SeamlessError(
        'HOST_UNREACHABLE',
        `expected the sink's port ${sink} on ${bridge.name}, got none`,
      );
    }
    const ports = {
      tunnelPort: numbers[sinkTunnel] as number,
      ...(sinkPort === undefined ? {} : { sinkPort }),
    };
    const flows = sinkBridgeFlows(this.#vm, state, ports);
    return this.#replacement(bridge, flows, this.#vm.sinkDatapath);
  }

  async #vmPorts(bridge: OpenFlowConnection) {
    const { vm, vmTunnel } = this.#vm.ports;
    const numbers = await portNumbers(bridge, [vm, vmTunnel]);
    return { vmPort: numbers[vm] as number, tunnelPort: numbers[vmTunnel] as number };
  }

  /** Tells the switch, and gives the function that lets it take effect. */
  async #replacement(
    bridge: OpenFlowConnection,
    flows: readonly FlowSpec[],
    datapath: DatapathControl | undefined,
  ): Promise<() => Promise<void>> {
    const commit = await fillBundle(bridge, [this.#deletion(), ...flows.map(added)]);
    return datapath ? () => datapath.flushAfter(commit) : commit;
  }

  #deletion(): FlowChange {
    return { type: 'delete', ...ownFlows(this.#vm.vmName) };
  }

  #open(bridge: KeptConnection): Promise<OpenFlowConnection> {
    return bridge.connection(this.#vm.timeoutMs);
  }
}

function fingerprint({ priority, match, actions }: FlowSpec): string {
  const fields = Object.entries(match).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([priority, fields, actions]);
}
