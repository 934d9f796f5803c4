/**
 * The flows that point a VM's traffic at the VM or at its sink: pure, one list per bridge and state.
 *
 *            VM's bridge                                        sink server's bridge
 *   awake    to the VM → its port                               to the VM → tunnel (back, if it came from there);
 *                                                               from the sink → drop, but what it gives back
 *   parked   to the VM → tunnel; from the VM → drop;            to the VM → sink; from the sink → as a switch;
 *            SYN to a held port → VM's port + packet-in;        SYN to a held port → tunnel;
 *            SYN of a health check, or on an open               SYN of a health check, or on an open
 *            connection → tunnel                                connection → sink
 *
 * A closed sink may still send one thing: to the VM's own address, which its stack never does, what it took from clients and
 * has not answered (sink-agent/returned.ts).
 *
 * The base flow (NORMAL at priority 0) is not ours. A flow for the VM exists in the awake state too, so that a MAC
 * address learned on the wrong side can't swallow its packets. In the parked state a SYN goes to the VM's own port,
 * where the packet buffer holds it, and the packet-in is the trigger. Packets that are on their way to the sink when it
 * closes go back through the tunnel, or a flip would lose them; they can't circle, because the VM's bridge never sends
 * a packet out of the port it came in by. The frames of a VM that is parked are dropped:
 * nobody but its sink may speak for it.
 */
import { createHash } from 'node:crypto';
import { type Action, PORT } from './openflow/actions.ts';
import type { FlowSpec } from './openflow/flow-mod.ts';
import { ETH_TYPE, IP_PROTO, type Match, TCP_FLAG } from './openflow/match.ts';
import { parsePrefix, prefixToText } from './openflow/prefix.ts';

export type RedirectState = 'awake' | 'parked';

export interface VmPlacement {
  vmName: string;
  /** The VM's address; its sink has the same. */
  mac: string;
  /** Services whose connection requests are held while the VM is parked, instead of reaching the sink. */
  heldTcpPorts: readonly number[];
  /** Open connections to them: a SYN on one of these is answered by its socket, and no request. */
  connections?: readonly { port: number; client: { address: string; port: number } }[];
  /** Addresses and prefixes whose connection requests reach the sink all the same. */
  healthChecks?: readonly string[];
}

/** OpenFlow port numbers on the VM's bridge. */
export interface VmBridgePorts {
  vmPort: number;
  tunnelPort: number;
}

/** OpenFlow port numbers on the sink server's bridge; no `sinkPort`: there is no sink (yet, or any more). */
export interface SinkBridgePorts {
  sinkPort?: number;
  tunnelPort: number;
}

export const COOKIE_PREFIX = 0x5ea1_1e55n;
export const COOKIE_MASK = 0xffff_ffff_ffff_ffffn;
const PRIORITY = { to: 1000, back: 1050, heldSyn: 1100, check: 1150, from: 1200, returned: 1250 } as const;
/** Enough for Ethernet, a VLAN tag, IPv6 and the TCP ports. */
const SYN_BYTES = 128;

/** Marks all flows of one VM: a fixed upper half, and a hash of its name. */
export function cookieOf(vmName: string): bigint {
  const hash = createHash('sha256').update(vmName).digest().readUInt32BE(0);
  return (COOKIE_PREFIX << 32n) | BigInt(hash);
}

/** Which flows are one VM's, for reading and deleting them. */
export function ownFlows(vmName: string): { cookie: bigint; cookieMask: bigint } {
  return { cookie: cookieOf(vmName), cookieMask: COOKIE_MASK };
}

export function vmBridgeFlows(vm: VmPlacement, state: RedirectState, ports: VmBridgePorts): FlowSpec[] {
  const toVm: Action = { type: 'output', port: ports.vmPort };
  const toTunnel: Action = { type: 'output', port: ports.tunnelPort };
  const flow = flowMaker(vm);
  if (state === 'awake') return [flow(PRIORITY.to, { ethDst: vm.mac }, [toVm])];
  const trigger: Action = { type: 'controller', maxBytes: SYN_BYTES };
  return [
    flow(PRIORITY.to, { ethDst: vm.mac }, [toTunnel]),
    flow(PRIORITY.from, { inPort: ports.vmPort, ethSrc: vm.mac }, []),
    ...heldSyns(vm).map((match) => flow(PRIORITY.heldSyn, match, [toVm, trigger])),
    ...[...checks(vm), ...synsAgain(vm)].map((match) => flow(PRIORITY.check, match, [toTunnel])),
  ];
}

export function sinkBridgeFlows(vm: VmPlacement, state: RedirectState, ports: SinkBridgePorts): FlowSpec[] {
  const toTunnel: Action = { type: 'output', port: ports.tunnelPort };
  const flow = flowMaker(vm);
  const { sinkPort } = ports;
  if (state === 'awake' || sinkPort === undefined) {
    const flows = [
      flow(PRIORITY.to, { ethDst: vm.mac }, [toTunnel]),
      flow(PRIORITY.back, { ethDst: vm.mac, inPort: ports.tunnelPort }, [
        { type: 'output', port: PORT.inPort },
      ]),
    ];
    if (sinkPort === undefined) return flows;
    return [
      ...flows,
      flow(PRIORITY.from, { inPort: sinkPort }, []),
      flow(PRIORITY.returned, { inPort: sinkPort, ethDst: vm.mac }, [toTunnel]),
    ];
  }
  const toSink: Action = { type: 'output', port: sinkPort };
  return [
    flow(PRIORITY.to, { ethDst: vm.mac }, [toSink]),
    flow(PRIORITY.from, { inPort: sinkPort }, [{ type: 'normal' }]),
    ...heldSyns(vm).map((match) => flow(PRIORITY.heldSyn, match, [toTunnel])),
    ...[...checks(vm), ...synsAgain(vm)].map((match) => flow(PRIORITY.check, match, [toSink])),
  ];
}

/** What makes flows that are one VM's. */
export function flowMaker({ vmName }: { vmName: string }) {
  const cookie = cookieOf(vmName);
  return (priority: number, match: Match, actions: Action[]): FlowSpec => ({
    cookie,
    priority,
    match,
    actions,
  });
}

/** Without ACK: a connection request. */
const SYN = { value: TCP_FLAG.syn, mask: TCP_FLAG.syn | TCP_FLAG.ack };

/** SYN to each held port. */
function heldSyns(vm: VmPlacement): Match[] {
  return vm.heldTcpPorts.flatMap((tcpDst) =>
    eachIp((ip) => ({ ethDst: vm.mac, ...ip, tcpDst, tcpFlags: SYN })),
  );
}

/** SYN of each listed source, to whatever port: a closed one is refused by the sink. */
function checks({ mac, healthChecks = [] }: VmPlacement): Match[] {
  return healthChecks.map((text) => {
    const prefix = parsePrefix(text);
    const source = prefixToText(prefix);
    const ip =
      prefix.family === 4
        ? { ethType: ETH_TYPE.ipv4, ipv4Src: source }
        : { ethType: ETH_TYPE.ipv6, ipv6Src: source };
    return { ethDst: mac, ...ip, ipProto: IP_PROTO.tcp, tcpFlags: SYN };
  });
}

/** SYN on a connection that is open already: a client that was started anew, or a stray copy. */
function synsAgain({ mac, connections = [] }: VmPlacement): Match[] {
  return connections.map(({ port, client }) => ({
    ethDst: mac,
    ...(client.address.includes(':')
      ? { ethType: ETH_TYPE.ipv6, ipv6Src: client.address }
      : { ethType: ETH_TYPE.ipv4, ipv4Src: client.address }),
    ipProto: IP_PROTO.tcp,
    tcpSrc: client.port,
    tcpDst: port,
    tcpFlags: SYN,
  }));
}

function eachIp(match: (ip: { ethType: number; ipProto: number }) => Match): Match[] {
  return [ETH_TYPE.ipv4, ETH_TYPE.ipv6].map((ethType) => match({ ethType, ipProto: IP_PROTO.tcp }));
}
