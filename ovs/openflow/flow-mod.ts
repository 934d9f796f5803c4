/** Adding and deleting flows (ONF TS-012, 7.3.4.2). */
import { type Action, encodeActions, PORT } from './actions.ts';
import { encodeMatch, type Match } from './match.ts';
import { type Draft, MESSAGE } from './message.ts';

export interface FlowSpec {
  cookie: bigint;
  priority: number;
  match: Match;
  /** Empty: drop. */
  actions: readonly Action[];
}

/** One change of the flow table, to be sent alone or in a bundle. */
export type FlowChange =
  | { type: 'add'; flow: FlowSpec }
  /** All flows whose cookie equals `cookie` in the bits of `cookieMask` and that are at least as narrow as `match`. */
  | { type: 'delete'; cookie: bigint; cookieMask: bigint; match?: Match };

export function added(flow: FlowSpec): FlowChange {
  return { type: 'add', flow };
}

const COMMAND = { add: 0, delete: 3 } as const;
const APPLY_ACTIONS = 4;
const NO_BUFFER = 0xffffffff;
const ALL_TABLES = 0xff;

export function encodeFlowChange(change: FlowChange): Draft {
  const fixed = Buffer.alloc(40);
  fixed.writeBigUInt64BE(change.type === 'add' ? change.flow.cookie : change.cookie, 0);
  fixed.writeBigUInt64BE(change.type === 'add' ? 0n : change.cookieMask, 8);
  fixed.writeUInt8(change.type === 'add' ? 0 : ALL_TABLES, 16);
  fixed.writeUInt8(COMMAND[change.type], 17);
  fixed.writeUInt16BE(change.type === 'add' ? change.flow.priority : 0, 22);
  fixed.writeUInt32BE(NO_BUFFER, 24);
  fixed.writeUInt32BE(PORT.any, 28);
  fixed.writeUInt32BE(PORT.any, 32); // any group
  const match = encodeMatch(change.type === 'add' ? change.flow.match : (change.match ?? {}));
  const instructions = change.type === 'add' ? applyActions(change.flow.actions) : Buffer.alloc(0);
  return { type: MESSAGE.flowMod, body: Buffer.concat([fixed, match, instructions]) };
}

function applyActions(actions: readonly Action[]): Buffer {
  const list = encodeActions(actions);
  const header = Buffer.alloc(8);
  header.writeUInt16BE(APPLY_ACTIONS, 0);
  header.writeUInt16BE(8 + list.length, 2);
  return Buffer.concat([header, list]);
}
