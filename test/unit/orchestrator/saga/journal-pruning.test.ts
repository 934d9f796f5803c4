import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type Journal, type NewRecord, openJournal } from '../../../../orchestrator/saga/journal.ts';
import { World } from '../sagas/world.ts';
import { drive, TRIGGER } from '../vm/driven.ts';
import { temporaryFolder } from './suite.ts';

const DAY_MS = 24 * 3600 * 1000;
const RETENTION = { days: 30, wakeDays: 180, operations: 1000 };
const TODAY = Date.UTC(2026, 10, 21);

test('what is old goes, with all records of its saga; what is recent stays', async () => {
  const { journal, at } = aged();
  at(40, ended('park-1'), state('parked'));
  at(39, ended('unpark-1', 'unpark'), state('awake'));
  at(10, ended('park-2'), state('parked'));
  at(9, ended('unpark-2', 'unpark'), state('awake'));
  expect(await journal.prune(RETENTION)).toBe(8);
  expect(journal.ofSaga('park-1')).toEqual([]);
  expect(sagas(journal)).toEqual(['park-2', 'unpark-2']);
  expect(await journal.prune(RETENTION)).toBe(0);
});

test('however old, a VM keeps its last state, its last operation of each kind and the last word on its QEMU', async () => {
  const { journal, at } = aged();
  at(400, ended('park-1'), state('parked'));
  at(399, ended('unpark-1', 'unpark'), state('awake'), [{ vm: 'vm1', event: 'hypervisor', body: { n: 1 } }]);
  at(398, ended('park-2'), state('parked'), [{ vm: 'vm1', event: 'hypervisor', body: { n: 2 } }]);
  await journal.prune(RETENTION);
  expect(sagas(journal)).toEqual(['unpark-1', 'park-2']);
  expect(journal.all('vm1', 'vmState').map(({ body }) => body.state)).toEqual([{ kind: 'parked' }]);
  expect(journal.all('vm1', 'hypervisor').map(({ body }) => body.n)).toEqual([2]);
});

test('a saga that has not ended, or was taken up again lately, stays whole', async () => {
  const { journal, at } = aged();
  at(50, [saga('park-0', 'sagaCreated', { definition: 'park', input: {} }), step('park-0')]);
  at(45, ended('park-1'));
  at(2, [saga('park-1', 'sagaResumed')]);
  at(1, ended('park-9'));
  await journal.prune(RETENTION);
  expect(sagas(journal)).toEqual(['park-0', 'park-1', 'park-9']);
  expect(journal.ofSaga('park-1')).toHaveLength(4);
});

test('wakes and their verdicts stay longer than the rest, and go too', async () => {
  const { journal, at } = aged();
  at(200, [wake(), saga('unpark-1', 'wakeJudged', { verdict: 'false' })]);
  at(100, ended('unpark-2', 'unpark'), [wake(), saga('unpark-2', 'wakeJudged', { verdict: 'used' })]);
  at(1, ended('unpark-3', 'unpark'));
  await journal.prune(RETENTION);
  expect(journal.all('vm1', 'wake')).toHaveLength(1);
  expect(journal.all('vm1', 'wakeJudged').map(({ body }) => body.verdict)).toEqual(['used']);
});

test('a VM that bounces keeps its newest operations only', async () => {
  const { journal, at } = aged();
  for (let n = 0; n < 30; n += 1) at(1, ended(`park-${n}`));
  at(20, [saga('other', 'sagaCreated', { definition: 'park', input: {} })].map(of('vm2')));
  await journal.prune({ ...RETENTION, operations: 10 });
  expect(sagas(journal)).toEqual([...Array.from({ length: 10 }, (_, n) => `park-${n + 20}`), 'other']);
});

test('others get their turn while much goes', async () => {
  const { journal, at } = aged();
  for (let n = 0; n < 2000; n += 1) at(50, ended(`park-${n}`));
  let turns = 0;
  const counting = setInterval(() => (turns += 1), 0);
  onTestFinished(() => clearInterval(counting));
  expect(await journal.prune(RETENTION)).toBe(1999 * 3);
  expect(turns).toBeGreaterThan(0);
});

test('after a pruning a new process recovers as it would have without', async () => {
  const path = join(temporaryFolder(), 'journal.sqlite');
  const world = new World();
  const first = openJournal(path, { now: () => TODAY - 60 * DAY_MS });
  const { driver } = drive(world, first);
  driver.start();
  for (let n = 0; n < 3; n += 1) {
    driver.park();
    await driver.idle();
    if (n === 2) break;
    driver.wake({ cause: 'syscall', at: '2026-09-22T03:00:00.000Z', trigger: TRIGGER });
    await driver.idle();
  }
  driver.stop();
  first.close();
  const second = openJournal(path, { now: () => TODAY });
  expect(await second.prune(RETENTION)).toBeGreaterThan(50);
  const again = drive(world, second).driver;
  onTestFinished(() => again.stop());
  again.start();
  expect(again.state).toMatchObject({ kind: 'parked', parked: { sinkPort: 'p' } });
  await again.unpark({ force: false });
  await again.idle();
  world.assertAtRest('awake');
});

/** A journal of today, in which a test writes as of some days ago. */
function aged() {
  let nowMs = TODAY;
  const journal = openJournal(':memory:', { now: () => nowMs });
  onTestFinished(() => journal.close());
  const at = (daysAgo: number, ...records: NewRecord[][]) => {
    nowMs = TODAY - daysAgo * DAY_MS;
    journal.append(records.flat());
    nowMs = TODAY;
  };
  return { journal, at };
}

function saga(id: string, event: NewRecord['event'], body: object = {}): NewRecord {
  return { vm: 'vm1', saga: id, event, body };
}

function step(id: string): NewRecord {
  return { vm: 'vm1', saga: id, step: 'admit', event: 'started' };
}

function ended(id: string, definition = 'park'): NewRecord[] {
  return [
    saga(id, 'sagaCreated', { definition, input: {} }),
    step(id),
    saga(id, 'sagaEnded', { kind: 'succeeded' }),
  ];
}

function state(kind: string): NewRecord[] {
  return [{ vm: 'vm1', event: 'vmState', body: { state: { kind } } }];
}

function wake(): NewRecord {
  return { vm: 'vm1', event: 'wake', body: { cause: 'syn' } };
}

function of(vm: string) {
  return (record: NewRecord): NewRecord => ({ ...record, vm });
}

function sagas(journal: Journal): (string | null)[] {
  const records = journal.after(0, { vm: undefined, limit: 100_000 });
  return [...new Set(records.map((record) => record.saga).filter((id) => id !== null))];
}
