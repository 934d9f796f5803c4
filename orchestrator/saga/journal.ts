/**
 * The journal: one table, only ever appended to and pruned, that says everything that was begun, done, undone and decided.
 *
 * `append` returns when the records are on the disk (WAL, synchronous=FULL): whoever goes on afterwards never knows
 * more than the journal does. Told `later`, it returns when the kernel has them: the death of this process loses none then, that of the
 * machine all since the last flush, which the next one takes along. The states of the VMs, the operations of the API and the event stream are all read
 * from it, so there is nothing else to keep in step.
 */
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { SeamlessError } from '../../common/errors.ts';
import { pruneJournal, RETENTION, type Retention } from './journal-pruning.ts';
import type { StepEvent } from './status.ts';

export const JOURNAL_VERSION = 1;

export type JournalEvent =
  | StepEvent
  | 'sagaCreated'
  | 'sagaResumed'
  | 'sagaEnded'
  | 'vmState'
  /** What woke the VM. */
  | 'wake'
  /** The first look after a wake, and what the VM had done a minute later (vm/wake-watch.ts). */
  | 'wakeWatched'
  | 'wakeJudged'
  /** The VM's QEMU went, or came back. */
  | 'hypervisor'
  /** A request with an `Idempotency-Key` was accepted (api/idempotency.ts). */
  | 'request'
  /** What Nova was asked for, by its request id. */
  | 'cloudRequest'
  /** Somebody else changed the VM (vm/outside-change.ts). */
  | 'outside'
  /** A changed policy file was taken over or refused; of no VM (`NO_VM`). */
  | 'policy';

/** In place of a VM's name, for what concerns the service as a whole. */
export const NO_VM = '*';

export interface NewRecord {
  vm: string;
  saga?: string;
  step?: string;
  event: JournalEvent;
  /** Anything that JSON can hold. */
  body?: object;
}

export interface JournalRecord {
  seq: number;
  atMs: number;
  vm: string;
  saga: string | null;
  step: string | null;
  event: JournalEvent;
  body: Record<string, unknown>;
}

export type Flush = 'now' | 'later';

export interface Journal {
  /** Writes all or none, durably unless told. */
  append(records: readonly NewRecord[], flush?: Flush): JournalRecord[];
  ofSaga(saga: string): JournalRecord[];
  /** Records after `seq`, oldest first. */
  after(seq: number, filter: { vm?: string | undefined; limit: number }): JournalRecord[];
  /** The last record of this kind for a VM. */
  last(vm: string, event: JournalEvent): JournalRecord | null;
  /** All records of this kind for a VM, oldest first. */
  all(vm: string, event: JournalEvent): JournalRecord[];
  /** The id of a VM’s latest saga of this definition. */
  lastSaga(vm: string, definition: string): string | null;
  /** Beginnings of sagas before record `before`, newest first. */
  sagas(query: { vm?: string | undefined; before: number; limit: number }): JournalRecord[];
  /** The last request that was accepted under this key. */
  request(key: string): JournalRecord | null;
  lastSeq(): number;
  /** Puts one value per VM away, in place of the one before: no event, but what is learned and only its last state matters. */
  keep(values: ReadonlyMap<string, object>): void;
  /** What was put away for a VM; null when nothing was, or it can't be read. */
  kept(vm: string): unknown;
  /** Deletes what is too old to be needed (journal-pruning.ts), bit by bit; returns how many records went. */
  prune(retention?: Retention): Promise<number>;
  subscribe(listener: (record: JournalRecord) => void): () => void;
  close(): void;
}

export interface JournalOptions {
  /** Called after each record is written, with what `append` was told; a test ends the process here. */
  onRecord?: (record: JournalRecord, flush: Flush) => void;
  now?: () => number;
}

/** Opens or makes the journal at `path` (`:memory:` for a throw-away one). */
export function openJournal(path: string, options: JournalOptions = {}): Journal {
  const db = openDatabase(path);
  const now = options.now ?? Date.now;
  const listeners = new Set<(record: JournalRecord) => void>();
  const insert = db.prepare(
    'INSERT INTO records (at_ms, vm, saga, step, event, body) VALUES (?, ?, ?, ?, ?, ?)',
  );
  const statements = new Map<string, StatementSync>();
  const prepared = (sql: string): StatementSync => {
    const known = statements.get(sql) ?? db.prepare(sql);
    statements.set(sql, known);
    return known;
  };
  const select = (where: string, ...values: SQLInputValue[]) =>
    prepared(`SELECT * FROM records WHERE ${where}`)
      .all(...values)
      .map(toRecord);

  const write = (record: NewRecord): JournalRecord => {
    const { vm, event } = record;
    const [saga, step, body] = [record.saga ?? null, record.step ?? null, record.body ?? {}];
    const atMs = now();
    const { lastInsertRowid } = insert.run(atMs, vm, saga, step, event, JSON.stringify(body));
    return {
      seq: Number(lastInsertRowid),
      atMs,
      vm,
      saga,
      step,
      event,
      body: body as Record<string, unknown>,
    };
  };

  return {
    append(records, flush = 'now') {
      if (records.length === 0) return [];
      if (flush === 'later') db.exec('PRAGMA synchronous = NORMAL');
      db.exec('BEGIN IMMEDIATE');
      let written: JournalRecord[];
      try {
        written = records.map(write);
        db.exec('COMMIT');
      } catch (thrown) {
        db.exec('ROLLBACK');
        throw thrown;
      } finally {
        if (flush === 'later') db.exec('PRAGMA synchronous = FULL');
      }
      for (const record of written) {
        options.onRecord?.(record, flush);
        for (const listener of listeners) listener(record);
      }
      return written;
    },
    ofSaga: (saga) => select('saga = ? ORDER BY seq', saga),
    after: (seq, { vm, limit }) =>
      vm === undefined
        ? select('seq > ? ORDER BY seq LIMIT ?', seq, limit)
        : select('seq > ? AND vm = ? ORDER BY seq LIMIT ?', seq, vm, limit),
    last: (vm, event) => select('vm = ? AND event = ? ORDER BY seq DESC LIMIT 1', vm, event)[0] ?? null,
    all: (vm, event) => select('vm = ? AND event = ? ORDER BY seq', vm, event),
    lastSaga(vm, definition) {
      const where =
        "vm = ? AND event = 'sagaCreated' AND body ->> 'definition' = ? ORDER BY seq DESC LIMIT 1";
      return select(where, vm, definition)[0]?.saga ?? null;
    },
    sagas({ vm, before, limit }) {
      const [ofVm, values] = vm === undefined ? ['', []] : ['vm = ? AND ', [vm]];
      const where = `${ofVm}event = 'sagaCreated' AND seq < ? ORDER BY seq DESC LIMIT ?`;
      return select(where, ...values, before, limit);
    },
    request: (key) =>
      select("event = 'request' AND body ->> 'key' = ? ORDER BY seq DESC LIMIT 1", key)[0] ?? null,
    lastSeq: () => Number(prepared('SELECT max(seq) AS seq FROM records').get()?.seq ?? 0),
    keep(values) {
      const put = db.prepare('INSERT OR REPLACE INTO kept (vm, at_ms, value) VALUES (?, ?, ?)');
      db.exec('BEGIN IMMEDIATE');
      try {
        for (const [vm, value] of values) put.run(vm, now(), JSON.stringify(value));
        db.exec('COMMIT');
      } catch (thrown) {
        db.exec('ROLLBACK');
        throw thrown;
      }
    },
    kept(vm) {
      const row = db.prepare('SELECT value FROM kept WHERE vm = ?').get(vm);
      try {
        return row ? (JSON.parse(String(row.value)) as unknown) : null;
      } catch {
        return null;
      }
    },
    prune: (retention = RETENTION) => pruneJournal(db, now(), retention),
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close: () => db.close(),
  };
}

function openDatabase(path: string): DatabaseSync {
  const db = new DatabaseSync(path);
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 2000');
  const version = Number(db.prepare('PRAGMA user_version').get()?.user_version);
  if (version === JOURNAL_VERSION) return withAdditions(db);
  if (version !== 0) {
    db.close();
    throw new SeamlessError(
      'JOURNAL_INCOMPATIBLE',
      `Expected a journal of format ${JOURNAL_VERSION} at ${path}, got one of format ${version}`,
    );
  }
  db.exec(`
    BEGIN;
    CREATE TABLE records (
      seq INTEGER PRIMARY KEY AUTOINCREMENT,
      at_ms INTEGER NOT NULL,
      vm TEXT NOT NULL,
      saga TEXT,
      step TEXT,
      event TEXT NOT NULL,
      body TEXT NOT NULL
    );
    CREATE INDEX records_of_saga ON records (saga, seq);
    CREATE INDEX records_of_vm ON records (vm, event, seq);
    PRAGMA user_version = ${JOURNAL_VERSION};
    COMMIT;
  `);
  return withAdditions(db);
}

/** An index and what is kept came later than the format, which they do not change. */
function withAdditions(db: DatabaseSync): DatabaseSync {
  db.exec("CREATE INDEX IF NOT EXISTS requests ON records (body ->> 'key', seq) WHERE event = 'request'");
  db.exec(
    'CREATE TABLE IF NOT EXISTS kept (vm TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, value TEXT NOT NULL)',
  );
  return db;
}

function toRecord(row: Record<string, unknown>): JournalRecord {
  try {
    return {
      seq: Number(row.seq),
      atMs: Number(row.at_ms),
      vm: String(row.vm),
      saga: row.saga === null ? null : String(row.saga),
      step: row.step === null ? null : String(row.step),
      event: String(row.event) as JournalEvent,
      body: JSON.parse(String(row.body)) as Record<string, unknown>,
    };
  } catch (cause) {
    throw new SeamlessError('JOURNAL_INCOMPATIBLE', `Expected a readable record ${String(row.seq)}`, {
      cause,
    });
  }
}
