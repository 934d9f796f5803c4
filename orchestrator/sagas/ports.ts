/**
 * What park and unpark need of the world: the VM's agent, its sink's agent, its network, its switch.
 * The sagas know these and nothing of sockets, QMP, cgroups or OpenFlow; `orchestrator/managed-vm.ts` makes them real.
 * Each function ensures: asking for what is so already changes nothing.
 */
import type { AllowedCall } from '../../criu/answers.ts';
import type { Listener, NetworkIdentity } from '../../criu/manifest.ts';
import type { AgentAddress, ConnectionPolicy, SinkAgentApi } from '../../sink-agent/api.ts';
import type { VmAgentApi } from '../../vm-agent/api.ts';
import type { CallOptions } from '../../wire/rpc-client.ts';
import type { SwitchOff } from '../suspend/switch-off.ts';

/** Typed calls to one agent over its kept connection. */
export interface Agent<Api extends { [M in keyof Api]: { params: object; result: unknown } }> {
  call<M extends keyof Api & string>(
    method: M,
    params: Api[M]['params'],
    options?: CallOptions,
  ): Promise<Api[M]['result']>;
}

/** One packet that waits. Ports are 0 where the protocol has none. */
export interface HeldPacket {
  protocol: 'tcp' | 'udp' | 'icmp' | 'other';
  /** A TCP connection request. */
  syn: boolean;
  source: string;
  sourcePort: number;
  destination: string;
  port: number;
}

/** What waits for the VM. */
export interface Held {
  /** Packets, and how many of them are connection requests. */
  packets: number;
  connections: number;
  /** The first connection request, or without one the oldest packet; null when nothing waits. */
  first: HeldPacket | null;
}

/** What was let go to the VM. */
export interface Released {
  packets: number;
  connections: number;
  /** How long the first of them had waited, in milliseconds. */
  oldestMs: number;
}

/** What has left by a port so far. */
export interface Sent {
  packets: number;
  bytes: number;
}

/** The VM's traffic: its flows on both bridges, and the packet buffer at its port. */
export interface VmNetwork {
  /** Throws `HOST_UNREACHABLE` when the VM's or the sink's host can't be used now. */
  reachable(): Promise<void>;
  /** From now on packets for the VM wait at its port. */
  hold(): Promise<void>;
  /**
   * Waiting packets go to the VM in their order, later ones straight to it; the buffer is taken down.
   * Gives what waited; null when it had been let go before.
   */
  release(): Promise<Released | null>;
  /**
   * Waiting packets go back through the bridges, which lead them to the sink; the buffer goes on holding.
   * Gives what still waits: connection requests, which the sink must not get.
   */
  divert(): Promise<Held>;
  /** Brings the sink's port to its bridge, closed in both directions. */
  plug(sinkPort: string): Promise<void>;
  /**
   * Sends a packet as long as a client's by the way that clients' packets will take, and waits for the sink's answer.
   * Throws `SINK_UNREACHABLE`; nothing has changed then.
   */
  probe(sinkPort: string, identity: NetworkIdentity): Promise<void>;
  unplug(sinkPort: string): Promise<void>;
  /** Closes the sink's port in both directions, whatever a flip that failed has left. */
  shut(sinkPort: string): Promise<void>;
  /**
   * All traffic to the sink, except connection requests to `listeners`, which wait at the VM's port.
   * @param connections which of them reach the sink all the same, as its gate was told; the configuration's unless told
   */
  toSink(
    sinkPort: string,
    listeners: readonly Listener[],
    connections: ConnectionPolicy | undefined,
  ): Promise<void>;
  /** All traffic to the VM's port, the sink's port closed. */
  toVm(sinkPort: string): Promise<void>;
  /** Where the flows lead now; throws when the bridge can't be asked. */
  leadsTo(
    sinkPort: string,
    listeners: readonly Listener[],
    connections: ConnectionPolicy | undefined,
  ): Promise<'vm' | 'sink'>;
  held(): Promise<Held>;
  /** What the VM and its sink have sent into their bridges so far; null for one whose port is not there. */
  sent(sinkPort: string): Promise<{ vm: Sent | null; sink: Sent | null }>;
}

export interface ParkSettings {
  connections: ConnectionPolicy;
  /** Programs that are gateway processes besides those that are found. */
  programs: readonly string[];
}

export interface Ports {
  vm: string;
  sinkServer: string;
  vmAgentAddress: AgentAddress;
  /** How it is to be parked, as configuration and policy say now; `CONFIG_INVALID`. */
  settings(): ParkSettings;
  /** What the profile of the VM's template allows now; `CONFIG_INVALID`. */
  profile(): AllowedCall[];
  vmAgent: Agent<VmAgentApi>;
  sinkAgent: Agent<SinkAgentApi>;
  network: VmNetwork;
  power: SwitchOff;
}
