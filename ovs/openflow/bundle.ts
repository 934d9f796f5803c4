/**
 * Several flow changes as one atomic step (ONF TS-012, 7.3.9): either all take effect at once, or none does.
 *
 * Two round trips: the first opens, fills and closes the bundle, so that a refused message is known before the
 * commit. (Open vSwitch would commit the others without it.)
 */

import { SeamlessError } from '../../common/errors.ts';
import type { OpenFlowConnection } from './connection.ts';
import { encodeFlowChange, type FlowChange } from './flow-mod.ts';
import { type Draft, encodeMessage, MESSAGE } from './message.ts';

const CONTROL = { open: 0, close: 2, commit: 4, discard: 6 } as const;
const ATOMIC_ORDERED = 0b11;
let lastBundleId = 0;

/** Applies `changes` in order, atomically; throws `HOST_UNREACHABLE` with what the switch refused and why. */
export async function commitBundle(
  connection: OpenFlowConnection,
  changes: readonly FlowChange[],
): Promise<void> {
  const commit = await fillBundle(connection, changes);
  await commit();
}

/** The first round trip alone; gives the function that makes the second. A switch drops by itself what is not committed soon. */
export async function fillBundle(
  connection: OpenFlowConnection,
  changes: readonly FlowChange[],
): Promise<() => Promise<void>> {
  lastBundleId = (lastBundleId + 1) >>> 0;
  const id = lastBundleId;
  const adds = changes.map((change) => add(id, encodeFlowChange(change)));
  const filled = await connection
    .exchange([control(id, 'open'), ...adds], control(id, 'close'))
    .catch(async (error: unknown) => {
      // The first error is what the caller needs; a switch that can't discard either drops the bundle by itself.
      if (connection.isOpen) await connection.exchange([], control(id, 'discard')).catch(() => {});
      throw error;
    });
  return async () => {
    await connection.exchange([], control(id, 'commit')).catch((error: unknown) => {
      const reason = connection.takeLateError(filled.xids);
      if (!reason) throw error;
      throw new SeamlessError(reason.code, reason.message, { cause: error, details: reason.details });
    });
  };
}

function control(id: number, what: keyof typeof CONTROL): Draft {
  const body = Buffer.alloc(8);
  body.writeUInt32BE(id, 0);
  body.writeUInt16BE(CONTROL[what], 4);
  body.writeUInt16BE(ATOMIC_ORDERED, 6);
  return { type: MESSAGE.bundleControl, body };
}

function add(id: number, inner: Draft): Draft {
  const header = Buffer.alloc(8);
  header.writeUInt32BE(id, 0);
  header.writeUInt16BE(ATOMIC_ORDERED, 6);
  // The standard wants the same transaction id inside and outside.
  return { type: MESSAGE.bundleAdd, body: (xid) => Buffer.concat([header, encodeMessage(inner, xid)]) };
}
