/**
 * The frame that asks a VM's address for an answer without telling anybody anything: an ARP probe without a sender's address (RFC 5227,
 * 2.1.1), which no host notes; for a VM that has no IPv4 address a neighbour solicitation (RFC 4861, 4.3).
 */
import { createHash } from 'node:crypto';
import { ipv4ToBytes, ipv6ToBytes, macToBytes, macToText } from './openflow/addresses.ts';
import { ETH_TYPE, IP_PROTO } from './openflow/match.ts';

const ETHERNET_BYTES = 14;
const ARP_ETHERNET_IPV4 = Buffer.from([0, 1, 8, 0, 6, 4, 0, 1]);
const NEIGHBOUR_SOLICITATION = 135;
const SOURCE_LINK_LAYER = 1;

/** An address that no interface has: locally administered, and one for each VM. */
export function probeMac(vmName: string): string {
  const hash = createHash('sha256').update(`probe ${vmName}`).digest();
  return macToText(Buffer.concat([Buffer.from([0x06]), hash.subarray(0, 5)]));
}

/**
 * @param address the VM's, without a prefix length
 * @param payloadBytes the frame is filled up to this many bytes after the Ethernet header, as a full packet of that MTU is
 */
export function probeFrame(from: string, to: string, address: string, payloadBytes: number): Buffer {
  const isIpv6 = address.includes(':');
  const type = Buffer.alloc(2);
  type.writeUInt16BE(isIpv6 ? ETH_TYPE.ipv6 : ETH_TYPE.arp);
  const asks = isIpv6 ? solicitation(from, address) : arpProbe(from, address);
  const frame = Buffer.concat([macToBytes(to), macToBytes(from), type, asks]);
  return Buffer.concat([frame, Buffer.alloc(Math.max(0, ETHERNET_BYTES + payloadBytes - frame.length))]);
}

function arpProbe(from: string, address: string): Buffer {
  return Buffer.concat([
    ARP_ETHERNET_IPV4,
    macToBytes(from),
    Buffer.alloc(4), // no sender
    Buffer.alloc(6),
    ipv4ToBytes(address),
  ]);
}

function solicitation(from: string, address: string): Buffer {
  const target = ipv6ToBytes(address);
  const mac = macToBytes(from);
  const source = Buffer.concat([Buffer.from('fe80000000000000', 'hex'), Buffer.alloc(2), mac]);
  const body = Buffer.alloc(32);
  body.writeUInt8(NEIGHBOUR_SOLICITATION, 0);
  target.copy(body, 8);
  body.writeUInt8(SOURCE_LINK_LAYER, 24);
  body.writeUInt8(1, 25); // in units of eight bytes
  mac.copy(body, 26);
  const header = Buffer.alloc(8);
  header.writeUInt8(0x60, 0);
  header.writeUInt16BE(body.length, 4);
  header.writeUInt8(IP_PROTO.icmpv6, 6);
  header.writeUInt8(255, 7); // no router has passed it on
  const pseudo = Buffer.from([0, 0, 0, body.length, 0, 0, 0, IP_PROTO.icmpv6]);
  body.writeUInt16BE(checksum(Buffer.concat([source, target, pseudo, body])), 2);
  return Buffer.concat([header, source, target, body]);
}

/** Of the Internet (RFC 1071), over an even number of bytes. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
