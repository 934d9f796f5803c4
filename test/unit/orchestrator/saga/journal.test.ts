import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect, test } from 'vitest';
import { JOURNAL_VERSION, openJournal } from '../../../../orchestrator/saga/journal.ts';
import { temporaryFolder } from './suite.ts';

test('records survive a reopening, in order, with what they hold', () => {
  const path = join(temporaryFolder(), 'journal.sqlite');
  const journal = openJournal(path, { now: () => 42 });
  journal.append([
    { vm: 'vm1', saga: 's1', event: 'sagaCreated', body: { definition: 'park', input: { imageId: 'i' } } },
    { vm: 'vm1', event: 'vmState', body: { state: { kind: 'awake' } } },
  ]);
  journal.close();
  const reopened = openJournal(path);
  expect(reopened.ofSaga('s1')).toEqual([
    {
      seq: 1,
      atMs: 42,
      vm: 'vm1',
      saga: 's1',
      step: null,
      event: 'sagaCreated',
      body: { definition: 'park', input: { imageId: 'i' } },
    },
  ]);
  expect(reopened.last('vm1', 'vmState')?.body).toEqual({ state: { kind: 'awake' } });
  expect(reopened.lastSaga('vm1', 'park')).toBe('s1');
  expect(reopened.lastSaga('vm1', 'unpark')).toBeNull();
  expect(reopened.after(1, { vm: undefined, limit: 10 }).map(({ seq }) => seq)).toEqual([2]);
  reopened.close();
});

test('what is kept of a VM is replaced, survives a reopening, and is no event', () => {
  const path = join(temporaryFolder(), 'journal.sqlite');
  const journal = openJournal(path);
  journal.keep(
    new Map([
      ['vm1', { n: 1 }],
      ['vm2', { n: 2 }],
    ]),
  );
  journal.keep(new Map([['vm1', { n: 3 }]]));
  journal.close();
  const reopened = openJournal(path);
  expect(['vm1', 'vm2', 'vm3'].map((vm) => reopened.kept(vm))).toEqual([{ n: 3 }, { n: 2 }, null]);
  expect(reopened.lastSeq()).toBe(0);
  reopened.close();
  const db = new DatabaseSync(path);
  db.exec("UPDATE kept SET value = '{' WHERE vm = 'vm1'");
  db.close();
  const damaged = openJournal(path);
  expect(damaged.kept('vm1')).toBeNull();
  damaged.close();
});

test('a journal of before there was anything to keep is opened', () => {
  const path = join(temporaryFolder(), 'journal.sqlite');
  openJournal(path).close();
  const db = new DatabaseSync(path);
  db.exec('DROP TABLE kept');
  db.close();
  const journal = openJournal(path);
  expect(journal.kept('vm1')).toBeNull();
  journal.close();
});

test('of several records all are written or none', () => {
  const journal = openJournal(':memory:');
  const cyclic: Record<string, unknown> = {};
  cyclic.self = cyclic;
  const records = [
    { vm: 'vm1', event: 'vmState', body: {} },
    { vm: 'vm1', event: 'vmState', body: cyclic },
  ] as const;
  expect(() => journal.append(records)).toThrow(TypeError);
  expect(journal.lastSeq()).toBe(0);
  journal.append([records[0]]);
  expect(journal.after(0, { vm: 'vm1', limit: 10 })).toHaveLength(1);
  journal.close();
});

test('a journal of a newer format is refused and left as it is', () => {
  const path = join(temporaryFolder(), 'journal.sqlite');
  openJournal(path).close();
  const db = new DatabaseSync(path);
  db.exec(`PRAGMA user_version = ${JOURNAL_VERSION + 1}`);
  db.close();
  expect(() => openJournal(path)).toThrow(expect.objectContaining({ code: 'JOURNAL_INCOMPATIBLE' }));
});

test('every record is synced to the disk before append returns', () => {
  const path = join(temporaryFolder(), 'journal.sqlite');
  const journal = openJournal(path);
  const db = new DatabaseSync(path);
  expect(db.prepare('PRAGMA journal_mode').get()).toEqual({ journal_mode: 'wal' });
  db.close();
  journal.append([{ vm: 'vm1', event: 'vmState' }]);
  // Another connection, as after a crash: what was appended is there without a close.
  const other = openJournal(path);
  expect(other.lastSeq()).toBe(1);
  other.close();
  journal.close();
});
