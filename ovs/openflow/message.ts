/** The frame of every OpenFlow 1.4 message: version, type, length, transaction id (ONF TS-012, 7.1). */
import { SeamlessError } from '../../common/errors.ts';

export const OPENFLOW_VERSION = 0x05;
export const HEADER_BYTES = 8;

export const MESSAGE = {
  hello: 0,
  error: 1,
  echoRequest: 2,
  echoReply: 3,
  featuresRequest: 5,
  featuresReply: 6,
  setConfig: 9,
  packetIn: 10,
  packetOut: 13,
  flowMod: 14,
  multipartRequest: 18,
  multipartReply: 19,
  barrierRequest: 20,
  barrierReply: 21,
  setAsync: 28,
  bundleControl: 33,
  bundleAdd: 34,
} as const;

export interface Message {
  version: number;
  type: number;
  xid: number;
  body: Buffer;
}

/** What a request becomes before it is given its transaction id. */
export interface Draft {
  type: number;
  /** A function where the body repeats the transaction id. */
  body: Buffer | ((xid: number) => Buffer);
}

export function encodeMessage(draft: Draft, xid: number): Buffer {
  const body = typeof draft.body === 'function' ? draft.body(xid) : draft.body;
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt8(OPENFLOW_VERSION, 0);
  header.writeUInt8(draft.type, 1);
  header.writeUInt16BE(HEADER_BYTES + body.length, 2);
  header.writeUInt32BE(xid, 4);
  return Buffer.concat([header, body]);
}

/** Cuts a byte stream into messages; `push` returns those that are complete. */
export class MessageSplitter {
  #pending: Buffer = Buffer.alloc(0);

  push(chunk: Buffer): Message[] {
    let rest = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    const messages: Message[] = [];
    while (rest.length >= HEADER_BYTES) {
      const length = rest.readUInt16BE(2);
      if (length < HEADER_BYTES) {
        throw new SeamlessError('HOST_UNREACHABLE', `expected an OpenFlow message, got length ${length}`);
      }
      if (rest.length < length) break;
      messages.push({
        version: rest.readUInt8(0),
        type: rest.readUInt8(1),
        xid: rest.readUInt32BE(4),
        body: rest.subarray(HEADER_BYTES, length),
      });
      rest = rest.subarray(length);
    }
    this.#pending = rest;
    return messages;
  }
}
