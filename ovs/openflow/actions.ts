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
  | { type: 'normal' };

const OUTPUT = 0;
const OUTPUT_BYTES = 16;

export function encodeActions(actions: readonly Action[]): Buffer {
  return Buffer.concat(actions.map(encodeOutput));
}

/** Reads actions that fill `bytes`; those that this client never writes are left out. */
export function decodeActions(bytes: Buffer): Action[] {
  const actions: Action[] = [];
  let at = 0;
  while (at + 4 <= bytes.length) {
    const size = bytes.readUInt16BE(at + 2);
    if (size < 8) break;
    if (bytes.readUInt16BE(at) === OUTPUT) {
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

function encodeOutput(action: Action): Buffer {
  const bytes = Buffer.alloc(OUTPUT_BYTES);
  bytes.writeUInt16BE(OUTPUT, 0);
  bytes.writeUInt16BE(OUTPUT_BYTES, 2);
  bytes.writeUInt32BE(action.type === 'output' ? action.port : PORT[action.type], 4);
  bytes.writeUInt16BE(action.type === 'controller' ? action.maxBytes : 0, 8);
  return bytes;
}
