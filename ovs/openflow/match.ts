/**
 * OXM matches (ONF TS-012, 7.2.2): which packets a flow is about.
 *
 * `tcpFlags` is written as Nicira's NXM_NX_TCP_FLAGS, which Open vSwitch takes in every version, and read back in
 * any of its three forms. Prerequisites (`ethType`, `ipProto`) are the caller's to give: the switch refuses a match
 * without them, and silently adding some would hide the mistake.
 */
import { SeamlessError } from '../../common/errors.ts';
import { ipv4ToBytes, ipv4ToText, ipv6ToBytes, ipv6ToText, macToBytes, macToText } from './addresses.ts';
import { bitsOfMask, maskOf, parsePrefix, prefixToText } from './prefix.ts';

export const ETH_TYPE = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd } as const;
export const IP_PROTO = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 } as const;
export const TCP_FLAG = { fin: 0x01, syn: 0x02, rst: 0x04, psh: 0x08, ack: 0x10 } as const;

export interface Match {
  inPort?: number;
  ethDst?: string;
  ethSrc?: string;
  ethType?: number;
  ipProto?: number;
  /** An address, or a prefix as `prefixToText` writes it. */
  ipv4Src?: string;
  ipv4Dst?: string;
  /** As `ipv4Src`. */
  ipv6Src?: string;
  ipv6Dst?: string;
  tcpSrc?: number;
  tcpDst?: number;
  udpSrc?: number;
  udpDst?: number;
  /** The flags named in `mask` must be as in `value`. */
  tcpFlags?: { value: number; mask: number };
  arpOp?: number;
  arpSenderIp?: string;
  arpTargetIp?: string;
  /** This bit of register 15 is not set; see the action `mark`. */
  unmarked?: number;
}

const CLASS_NXM1 = 0x0001;
const CLASS_BASIC = 0x8000;
const CLASS_EXPERIMENTER = 0xffff;
const NXM_TCP_FLAGS = 34;
const OXM_TCP_FLAGS = 42;
const NXM_REGISTER_15 = 15;

type PlainField = Exclude<keyof Match, 'tcpFlags' | 'unmarked'>;
interface FieldCodec {
  field: number;
  encode(value: never): Buffer;
  decode(bytes: Buffer): number | string;
}

const u8 = {
  encode: (n: number) => Buffer.from([n]),
  decode: (b: Buffer) => b.readUInt8(0),
};
const u16 = {
  encode: (n: number) => Buffer.from([n >> 8, n & 0xff]),
  decode: (b: Buffer) => b.readUInt16BE(0),
};
const u32 = {
  encode: (n: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(n);
    return bytes;
  },
  decode: (b: Buffer) => b.readUInt32BE(0),
};
const mac = { encode: macToBytes, decode: macToText };
const ipv4 = { encode: ipv4ToBytes, decode: ipv4ToText };
const ipv6 = { encode: ipv6ToBytes, decode: ipv6ToText };

/** In the order in which the fields are written: prerequisites come first, as the standard wants. */
const FIELDS: { [name in PlainField]: FieldCodec } = {
  inPort: { field: 0, ...u32 },
  ethDst: { field: 3, ...mac },
  ethSrc: { field: 4, ...mac },
  ethType: { field: 5, ...u16 },
  ipProto: { field: 10, ...u8 },
  ipv4Src: { field: 11, ...ipv4 },
  ipv4Dst: { field: 12, ...ipv4 },
  tcpSrc: { field: 13, ...u16 },
  tcpDst: { field: 14, ...u16 },
  udpSrc: { field: 15, ...u16 },
  udpDst: { field: 16, ...u16 },
  arpOp: { field: 21, ...u16 },
  arpSenderIp: { field: 22, ...ipv4 },
  arpTargetIp: { field: 23, ...ipv4 },
  ipv6Src: { field: 26, ...ipv6 },
  ipv6Dst: { field: 27, ...ipv6 },
};

/** The match structure with its padding to 8 bytes. */
export function encodeMatch(match: Match): Buffer {
  const parts: Buffer[] = [];
  for (const [name, codec] of Object.entries(FIELDS)) {
    const value = match[name as PlainField];
    if (value === undefined) continue;
    if (typeof value === 'string' && value.includes('/')) parts.push(prefixOxm(codec.field, value));
    else parts.push(oxm(CLASS_BASIC, codec.field, false, codec.encode(value as never)));
  }
  if (match.tcpFlags) {
    const { value, mask } = match.tcpFlags;
    parts.push(oxm(CLASS_NXM1, NXM_TCP_FLAGS, true, Buffer.concat([u16.encode(value), u16.encode(mask)])));
  }
  if (match.unmarked !== undefined) {
    const mask = Buffer.concat([u32.encode(0), u32.encode(2 ** match.unmarked)]);
    parts.push(oxm(CLASS_NXM1, NXM_REGISTER_15, true, mask));
  }
  const fields = Buffer.concat(parts);
  const length = 4 + fields.length;
  const header = Buffer.alloc(4);
  header.writeUInt16BE(1, 0); // OFPMT_OXM
  header.writeUInt16BE(length, 2);
  return Buffer.concat([header, fields, Buffer.alloc(padding(length))]);
}

/** Reads a match at the start of `bytes`; `size` includes the padding. Fields that this client never writes are left out. */
export function decodeMatch(bytes: Buffer): { match: Match; size: number } {
  const length = bytes.readUInt16BE(2);
  if (length < 4 || length > bytes.length) {
    throw new SeamlessError('HOST_UNREACHABLE', `expected an OpenFlow match, got length ${length}`);
  }
  const match: Match = {};
  let at = 4;
  while (at + 4 <= length) {
    const oxmClass = bytes.readUInt16BE(at);
    const field = bytes.readUInt8(at + 2) >> 1;
    const masked = (bytes.readUInt8(at + 2) & 1) === 1;
    const size = bytes.readUInt8(at + 3);
    readField(match, oxmClass, field, masked, bytes.subarray(at + 4, at + 4 + size));
    at += 4 + size;
  }
  return { match, size: length + padding(length) };
}

function readField(match: Match, oxmClass: number, field: number, masked: boolean, bytes: Buffer): void {
  const experimenter = oxmClass === CLASS_EXPERIMENTER;
  const isTcpFlags =
    (oxmClass === CLASS_NXM1 && field === NXM_TCP_FLAGS) ||
    ((oxmClass === CLASS_BASIC || experimenter) && field === OXM_TCP_FLAGS);
  if (isTcpFlags) {
    const payload = experimenter ? bytes.subarray(4) : bytes;
    match.tcpFlags = { value: payload.readUInt16BE(0), mask: masked ? payload.readUInt16BE(2) : 0xfff };
    return;
  }
  if (oxmClass === CLASS_NXM1 && field === NXM_REGISTER_15 && masked) {
    match.unmarked = Math.log2(bytes.readUInt32BE(4));
    return;
  }
  if (oxmClass !== CLASS_BASIC) return;
  for (const [name, codec] of Object.entries(FIELDS)) {
    if (codec.field !== field) continue;
    if (!masked) Object.assign(match, { [name]: codec.decode(bytes) });
    else if (/^ipv[46](Src|Dst)$/.test(name)) Object.assign(match, { [name]: readPrefix(bytes) });
  }
}

function prefixOxm(field: number, text: string): Buffer {
  const prefix = parsePrefix(text);
  return oxm(CLASS_BASIC, field, true, Buffer.concat([prefix.address, maskOf(prefix)]));
}

function readPrefix(bytes: Buffer): string {
  const half = bytes.length / 2;
  const bits = bitsOfMask(bytes.subarray(half));
  return prefixToText({ family: half === 4 ? 4 : 6, address: bytes.subarray(0, half), bits });
}

function oxm(oxmClass: number, field: number, masked: boolean, payload: Buffer): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt16BE(oxmClass, 0);
  header.writeUInt8((field << 1) | (masked ? 1 : 0), 2);
  header.writeUInt8(payload.length, 3);
  return Buffer.concat([header, payload]);
}

function padding(length: number): number {
  return (8 - (length % 8)) % 8;
}
