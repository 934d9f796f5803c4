/** Reads a connection request out of a packet-in's bytes. */
import { ipv4ToText, ipv6ToText } from './openflow/addresses.ts';
import { ETH_TYPE, IP_PROTO, TCP_FLAG } from './openflow/match.ts';

export interface TcpSyn {
  source: string;
  sourcePort: number;
  destination: string;
  port: number;
}

const VLAN = 0x8100;

/** The addresses of a TCP SYN in an Ethernet frame (which may be cut after them), or undefined for anything else. */
export function parseSyn(frame: Buffer): TcpSyn | undefined {
  if (frame.length < 18) return undefined;
  const tagged = frame.readUInt16BE(12) === VLAN;
  const ethType = frame.readUInt16BE(tagged ? 16 : 12);
  const ip = frame.subarray(tagged ? 18 : 14);
  if (ethType === ETH_TYPE.ipv4 && ip.length >= 20) {
    if (ip.readUInt8(9) !== IP_PROTO.tcp) return undefined;
    const tcp = ip.subarray((ip.readUInt8(0) & 0x0f) * 4);
    return withPorts(tcp, ipv4ToText(ip.subarray(12, 16)), ipv4ToText(ip.subarray(16, 20)));
  }
  if (ethType === ETH_TYPE.ipv6 && ip.length >= 40) {
    // No extension headers: the flow that sent this packet matched TCP, and a SYN carries none in practice.
    if (ip.readUInt8(6) !== IP_PROTO.tcp) return undefined;
    return withPorts(ip.subarray(40), ipv6ToText(ip.subarray(8, 24)), ipv6ToText(ip.subarray(24, 40)));
  }
  return undefined;
}

function withPorts(tcp: Buffer, source: string, destination: string): TcpSyn | undefined {
  if (tcp.length < 14) return undefined;
  const flags = tcp.readUInt8(13) & (TCP_FLAG.syn | TCP_FLAG.ack);
  if (flags !== TCP_FLAG.syn) return undefined;
  return { source, sourcePort: tcp.readUInt16BE(0), destination, port: tcp.readUInt16BE(2) };
}
