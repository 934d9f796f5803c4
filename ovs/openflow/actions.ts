/** What a flow or a packet-out does with a packet. No action at all is a drop. */

/** Reserved ports (ONF TS-012, 7.2.1.2). */
export const PORT = {
  inPort: 0xfffffff8,
  normal: 0xfffffffa,
  controller: 0xfffffffd,
  any: 0xffffffff,
} as const;

export type Action =
  | { type: 'output'; port: number }
  /** The first `maxBytes` of the packet come to us as a packet-in. */
  | { type: 'controller'; maxBytes: number }
  /** As a learning switch would do. */
  | { type: 'normal' }
  /** Sets one bit of the packet's register 15, which nothing but our matches sees. */
  | { type: 'mark'; bit: number }
  /** Goes through table 0 again, marked as it is now. */
  | { type: 'again' };

const OUTPUT = 0;
const OUTPUT_BYTES = 16;
const EXPERIMENTER = 0xffff;
/** Nicira's, which Open vSwitch speaks in every version of OpenFlow. */
const NICIRA = 0x2320;
const REGISTER_LOAD = 7;
const RESUBMIT_TABLE = 14;
const IN_PORT_16 = 0xfff8;
/** NXM header of NXM_NX_REG15: class 1, field 15, four bytes. */
const REGISTER_15 = (1 << 16) | (15 << 9) | 4;

export function encodeActions(actions: readonly Action[]): Buffer {
  return Buffer.concat(
    actions.map((action) => {
      if (action.type === 'mark') return encodeMark(action.bit);
      return action.type === 'again' ? encodeAgain() : encodeOutput(action);
    }),
  );
}

/** Reads actions that fill `bytes`; those that this client never writes are left out. */
export function decodeActions(bytes: Buffer): Action[] {
  const actions: Action[] = [];
  let at = 0;
  while (at + 4 <= bytes.length) {
    const size = bytes.readUInt16BE(at + 2);
    if (size < 8) break;
    const type = bytes.readUInt16BE(at);
    if (type === EXPERIMENTER && bytes.readUInt32BE(at + 4) === NICIRA) {
      const subtype = bytes.readUInt16BE(at + 8);
      if (subtype === REGISTER_LOAD) actions.push({ type: 'mark', bit: bytes.readUInt16BE(at + 10) >> 6 });
      if (subtype === RESUBMIT_TABLE) actions.push({ type: 'again' });
    }
    if (type === OUTPUT) {
      const port = bytes.readUInt32BE(at + 4);
      if (port === PORT.normal) actions.push({ type: 'normal' });
      else if (port === PORT.controller)
        actions.push({ type: 'controller', maxBytes: bytes.readUInt16BE(at + 8) });
      else actions.push({ type: 'output', port });
    }
    at += size;
  }
  return actions;
}

function encodeOutput(action: Exclude<Action, { type: 'mark' | 'again' }>): Buffer {
  const bytes = Buffer.alloc(OUTPUT_BYTES);
  bytes.writeUInt16BE(OUTPUT, 0);
  bytes.writeUInt16BE(OUTPUT_BYTES, 2);
  bytes.writeUInt32BE(action.type === 'output' ? action.port : PORT[action.type], 4);
  bytes.writeUInt16BE(action.type === 'controller' ? action.maxBytes : 0, 8);
  return bytes;
}

function encodeMark(bit: number): Buffer {
  const bytes = nicira(24, REGISTER_LOAD);
  bytes.writeUInt16BE(bit << 6, 10); // from this bit on, one bit
  bytes.writeUInt32BE(REGISTER_15, 12);
  bytes.writeBigUInt64BE(1n, 16);
  return bytes;
}

function encodeAgain(): Buffer {
  const bytes = nicira(16, RESUBMIT_TABLE);
  bytes.writeUInt16BE(IN_PORT_16, 10);
  return bytes;
}

function nicira(size: number, subtype: number): Buffer {
  const bytes = Buffer.alloc(size);
  bytes.writeUInt16BE(EXPERIMENTER, 0);
  bytes.writeUInt16BE(size, 2);
  bytes.writeUInt32BE(NICIRA, 4);
  bytes.writeUInt16BE(subtype, 8);
  return bytes;
}
