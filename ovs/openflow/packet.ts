/** Packets that the switch hands to us, and packets that we hand to it. */
import { type Action, encodeActions, PORT } from './actions.ts';
import { decodeMatch } from './match.ts';
import { type Draft, MESSAGE } from './message.ts';

export interface PacketIn {
  /** Of the flow that sent it. */
  cookie: bigint;
  /** OFPR_*: 1 is an apply-actions instruction. */
  reason: number;
  inPort: number | undefined;
  /** Bytes of the whole packet; `data` may hold fewer. */
  totalBytes: number;
  data: Buffer;
}

export interface PacketOut {
  data: Buffer;
  actions: readonly Action[];
  /** The port that the packet is said to come from; the controller unless told. */
  inPort?: number;
}

export function decodePacketIn(body: Buffer): PacketIn {
  const { match, size } = decodeMatch(body.subarray(16));
  return {
    totalBytes: body.readUInt16BE(4),
    reason: body.readUInt8(6),
    cookie: body.readBigUInt64BE(8),
    inPort: match.inPort,
    data: Buffer.from(body.subarray(16 + size + 2)),
  };
}

export function encodePacketOut({ data, actions, inPort = PORT.controller }: PacketOut): Draft {
  const list = encodeActions(actions);
  const fixed = Buffer.alloc(16);
  fixed.writeUInt32BE(0xffffffff, 0); // not buffered in the switch
  fixed.writeUInt32BE(inPort, 4);
  fixed.writeUInt16BE(list.length, 8);
  return { type: MESSAGE.packetOut, body: Buffer.concat([fixed, list, data]) };
}
