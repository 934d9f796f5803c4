/**
 * What of the journal may go. Kept are, however old:
 *
 * - of each VM the last state, the last word on its QEMU, and its last park and unpark, which `explain` and a recovery read;
 * - every saga that has not ended, or of which anything was noted since;
 * - wakes and their verdicts, and what was learned of a VM that is there no more, for longer than the rest.
 *
 * Everything else goes after `days`, and of each VM all but the newest `operations`, so that a VM which bounces can't fill
 * the disk. A saga goes as a whole or not at all. VM by VM, in small transactions, between which other work gets its
 * turn; the file keeps its size and uses the room again.
 */
import type { DatabaseSync } from 'node:sqlite';
import { setImmediate as nextTurn } from 'node:timers/promises';

export interface Retention {
  days: number;
  /** Of wakes and their verdicts. */
  wakeDays: number;
  /** Sagas per VM. */
  operations: number;
}

export const RETENTION: Retention = { days: 30, wakeDays: 180, operations: 1000 };

const DAY_MS = 24 * 3600 * 1000;
const SAGAS_AT_ONCE = 50;
/** Records that outlive their saga. */
const OF_WAKES = "('wake', 'wakeJudged')";

/** Deletes what may go; returns how many records that were. Ends early when the database is closed meanwhile. */
export async function pruneJournal(db: DatabaseSync, nowMs: number, retention: Retention): Promise<number> {
  const before = nowMs - retention.days * DAY_MS;
  const wakesBefore = nowMs - retention.wakeDays * DAY_MS;
  let deleted = Number(db.prepare('DELETE FROM kept WHERE at_ms < ?').run(wakesBefore).changes);
  const vms = db.prepare('SELECT DISTINCT vm FROM records').all();
  for (const { vm } of vms) {
    if (!db.isOpen) return deleted;
    const sagas = oldSagas(db, String(vm), before, retention.operations);
    for (let at = 0; at < sagas.length && db.isOpen; at += SAGAS_AT_ONCE) {
      deleted += deleteSagas(db, sagas.slice(at, at + SAGAS_AT_ONCE));
      await nextTurn();
    }
    if (db.isOpen) deleted += deleteNotes(db, String(vm), before, wakesBefore);
    await nextTurn();
  }
  return deleted;
}

function oldSagas(db: DatabaseSync, vm: string, before: number, operations: number): string[] {
  const created = db
    .prepare(
      `SELECT saga, body ->> 'definition' AS definition, at_ms FROM records
       WHERE vm = ? AND event = 'sagaCreated' ORDER BY seq DESC`,
    )
    .all(vm);
  const newest = new Set<unknown>();
  const candidates = created.filter(({ definition, at_ms }, age) => {
    const isNewest = !newest.has(definition);
    newest.add(definition);
    return !isNewest && (age >= operations || Number(at_ms) < before);
  });
  const facts = db.prepare(
    `SELECT max(at_ms) AS last, max(event = 'sagaEnded') AS ended FROM records WHERE saga = ?`,
  );
  return candidates.flatMap(({ saga, at_ms }) => {
    const { last, ended } = facts.get(String(saga)) ?? {};
    const isOld = Number(at_ms) >= before || Number(last) < before; // too many, or untouched for long
    return ended === 1 && isOld ? [String(saga)] : [];
  });
}

function deleteSagas(db: DatabaseSync, sagas: readonly string[]): number {
  const remove = db.prepare(`DELETE FROM records WHERE saga = ? AND event NOT IN ${OF_WAKES}`);
  return inTransaction(db, () => sagas.reduce((total, saga) => total + Number(remove.run(saga).changes), 0));
}

/** Records that belong to no saga, and those of wakes. */
function deleteNotes(db: DatabaseSync, vm: string, before: number, wakesBefore: number): number {
  return inTransaction(db, () => {
    const notes = ['vmState', 'hypervisor', 'cloudRequest', 'outside', 'policy'].map((event) =>
      db
        .prepare(
          `DELETE FROM records WHERE vm = ?1 AND event = ?2 AND at_ms < ?3
           AND seq < (SELECT max(seq) FROM records WHERE vm = ?1 AND event = ?2)`,
        )
        .run(vm, event, before),
    );
    const requests = db
      .prepare("DELETE FROM records WHERE vm = ? AND event = 'request' AND at_ms < ?")
      .run(vm, before);
    const wakes = db
      .prepare(`DELETE FROM records WHERE vm = ? AND event IN ${OF_WAKES} AND at_ms < ?`)
      .run(vm, wakesBefore);
    return [...notes, requests, wakes].reduce((total, { changes }) => total + Number(changes), 0);
  });
}

function inTransaction(db: DatabaseSync, work: () => number): number {
  db.exec('BEGIN IMMEDIATE');
  try {
    const result = work();
    db.exec('COMMIT');
    return result;
  } catch (thrown) {
    db.exec('ROLLBACK');
    throw thrown;
  }
}
