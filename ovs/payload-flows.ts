/**
 * The flows that count one VM's payload on its own bridge: pure. A switch can't tell what is in a packet, but its protocol and its flags
 * say whether it is trivial, that is, answered by a network stack without a program:
 *
 *   counted            TCP with PSH, which each write ends with; all UDP
 *   trivial, by rule   ICMP, ARP, bare ACKs, TCP keep-alives (none has PSH), scans of TCP ports (SYN, RST, FIN), broadcasts
 *   trivial, by name   DHCP; whatever comes from and goes to the policy's health checks
 *
 * They only count: each marks the packet and sends it through the table once more, where it meets what it would have met without them.
 * A packet between two VMs is counted for both, hence one mark for each end.
 */
import { createHash } from 'node:crypto';
import type { Action } from './openflow/actions.ts';
import type { FlowSpec } from './openflow/flow-mod.ts';
import { ETH_TYPE, IP_PROTO, type Match, TCP_FLAG } from './openflow/match.ts';
import { parsePrefix, prefixToText } from './openflow/prefix.ts';

export interface PayloadOwner {
  vmName: string;
  mac: string;
  /** Addresses and prefixes whose traffic is trivial. */
  healthChecks: readonly string[];
}

/** Above all flows of a redirection (flows.ts). The priority of a counter says what headers its packets have. */
const COUNTER = { tcp4: 2000, tcp6: 2001, udp4: 2002, udp6: 2003 } as const;
const TRIVIAL = 2100;

const ETHERNET = 14;
/** By priority: the least that the headers of a packet take. */
const HEADER_BYTES: Readonly<Record<number, number>> = {
  [COUNTER.tcp4]: ETHERNET + 20 + 20,
  [COUNTER.tcp6]: ETHERNET + 40 + 20,
  [COUNTER.udp4]: ETHERNET + 20 + 8,
  [COUNTER.udp6]: ETHERNET + 40 + 8,
};

/** Counters in both directions. */
export const COUNTERS = 2 * Object.keys(COUNTER).length;

const PREFIX = { counter: 0x5ea1_1e56n, trivial: 0x5ea1_1e57n } as const;

export function payloadCookie(vmName: string, kind: keyof typeof PREFIX): bigint {
  const hash = createHash('sha256').update(vmName).digest().readUInt32BE(0);
  return (PREFIX[kind] << 32n) | BigInt(hash);
}

export function counterFlows(vm: PayloadOwner): FlowSpec[] {
  const cookie = payloadCookie(vm.vmName, 'counter');
  const tcp = {
    ipProto: IP_PROTO.tcp,
    tcpFlags: {
      value: TCP_FLAG.psh | TCP_FLAG.ack,
      mask: TCP_FLAG.psh | TCP_FLAG.ack | TCP_FLAG.syn | TCP_FLAG.rst,
    },
  };
  const udp = { ipProto: IP_PROTO.udp };
  return ends(vm).flatMap(({ match, actions }) => {
    const flow = (priority: number, more: Match): FlowSpec => ({
      ...{ cookie, priority, actions },
      match: { ...match, ...more },
    });
    return [
      flow(COUNTER.tcp4, { ethType: ETH_TYPE.ipv4, ...tcp }),
      flow(COUNTER.tcp6, { ethType: ETH_TYPE.ipv6, ...tcp }),
      flow(COUNTER.udp4, { ethType: ETH_TYPE.ipv4, ...udp }),
      flow(COUNTER.udp6, { ethType: ETH_TYPE.ipv6, ...udp }),
    ];
  });
}

export function trivialFlows(vm: PayloadOwner): FlowSpec[] {
  const cookie = payloadCookie(vm.vmName, 'trivial');
  return ends(vm).flatMap(({ isTo, match, actions }) => [
    ...dhcp(isTo).map((more) => ({ cookie, priority: TRIVIAL, match: { ...match, ...more }, actions })),
    ...vm.healthChecks.map((text) => ({
      ...{ cookie, priority: TRIVIAL, actions },
      match: { ...match, ...peer(text, isTo) },
    })),
  ]);
}

/** Bytes of payload, options of TCP included, that `bytes` of whole packets held. */
export function payloadBytes(priority: number, packets: number, bytes: number): number {
  return Math.max(0, bytes - packets * (HEADER_BYTES[priority] ?? 0));
}

/** To the VM, and from it. */
function ends({ mac }: PayloadOwner): { isTo: boolean; match: Match; actions: Action[] }[] {
  const counted = (bit: number): Action[] => [{ type: 'mark', bit }, { type: 'again' }];
  return [
    { isTo: true, match: { ethDst: mac, unmarked: 0 }, actions: counted(0) },
    { isTo: false, match: { ethSrc: mac, unmarked: 1 }, actions: counted(1) },
  ];
}

function dhcp(isTo: boolean): Match[] {
  const v4 = { ethType: ETH_TYPE.ipv4, ipProto: IP_PROTO.udp };
  const v6 = { ethType: ETH_TYPE.ipv6, ipProto: IP_PROTO.udp };
  return isTo
    ? [
        { ...v4, udpSrc: 67, udpDst: 68 },
        { ...v6, udpSrc: 547, udpDst: 546 },
      ]
    : [
        { ...v4, udpSrc: 68, udpDst: 67 },
        { ...v6, udpSrc: 546, udpDst: 547 },
      ];
}

function peer(text: string, isTo: boolean): Match {
  const prefix = parsePrefix(text);
  const address = prefixToText(prefix);
  if (prefix.family === 4)
    return { ethType: ETH_TYPE.ipv4, ...(isTo ? { ipv4Src: address } : { ipv4Dst: address }) };
  return { ethType: ETH_TYPE.ipv6, ...(isTo ? { ipv6Src: address } : { ipv6Dst: address }) };
}
