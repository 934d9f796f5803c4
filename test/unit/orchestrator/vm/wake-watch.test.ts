/** The watch over a real driver, sagas and journal; the guest’s readings are the test’s. */
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { type Journal, openJournal } from '../../../../orchestrator/saga/journal.ts';
import { manualWake } from '../../../../orchestrator/vm/wake.ts';
import { temporaryFolder } from '../saga/suite.ts';
import { World } from '../sagas/world.ts';
import { type Driven, drive, IDLE, TRIGGER } from './driven.ts';

const DEADLINE = { timeout: 5000, interval: 2 };
const LATER = { ...IDLE, uptimeMs: IDLE.uptimeMs + 60_000 };

test('a wake after which nothing happened is judged false a minute later, and counted by its rule', async () => {
  const { driven, journal } = setUp();
  driven.readings.splice(0, 1, IDLE, LATER);
  await wakeUp(driven);
  const [judged] = await verdicts(journal);
  expect(judged?.body).toMatchObject({ verdict: 'false', cause: 'syscall', rule: 'file.open' });
  expect(judged?.saga).toBe(journal.lastSaga('vm1', 'unpark'));
  const asked = { gateway: [400], client: TRIGGER.client };
  expect(driven.asked).toEqual([asked, asked]);
});

test('a wake after which a command ran was needed', async () => {
  const { driven, journal } = setUp();
  driven.readings.splice(0, 1, IDLE, { ...LATER, gateway: { cpuMs: 60, reaped: 120 } });
  await wakeUp(driven);
  expect((await verdicts(journal))[0]?.body).toMatchObject({
    verdict: 'used',
    because: ['its gateway processes ran others'],
  });
});

test('a process that was started by the wake, before anybody could look, counts', async () => {
  const { driven, journal } = setUp();
  const newest = { pid: 900, program: 'uptime', startedMs: IDLE.uptimeMs };
  driven.readings.splice(0, 1, { ...IDLE, newest }, { ...LATER, newest });
  await wakeUp(driven);
  expect((await verdicts(journal))[0]?.body).toMatchObject({ because: ['started uptime[900]'] });
});

test('an agent that does not answer leaves the wake unknown', async () => {
  const { driven, journal } = setUp();
  driven.readings.splice(0, 1, IDLE, null);
  await wakeUp(driven);
  expect((await verdicts(journal))[0]?.body).toMatchObject({
    verdict: 'unknown',
    because: ['the vm-agent did not answer'],
  });
});

test('a VM that is parked again before the minute is over is not held up, and its wake is unknown', async () => {
  const { driven, journal } = setUp({ windowMs: 60_000 });
  await wakeUp(driven);
  await vi.waitUntil(() => journal.all('vm1', 'wakeWatched').length === 1, DEADLINE);
  driven.driver.park();
  await driven.driver.idle();
  expect(driven.driver.state.kind).toBe('parked');
  expect((await verdicts(journal))[0]?.body).toMatchObject({ verdict: 'unknown' });
});

test('a wake by hand is not judged', async () => {
  const { driven, journal } = setUp();
  driven.driver.park();
  await driven.driver.idle();
  driven.driver.wake(manualWake());
  await driven.driver.idle();
  expect(journal.all('vm1', 'wakeWatched')).toEqual([]);
  expect(driven.asked).toEqual([]);
});

test('a new process goes on watching where the old one was', async () => {
  const path = join(temporaryFolder(), 'journal.sqlite');
  const world = new World();
  const first = setUp({ world, path, windowMs: 300 });
  await wakeUp(first.driven);
  await vi.waitUntil(() => first.journal.all('vm1', 'wakeWatched').length === 1, DEADLINE);
  first.driven.driver.stop();
  first.journal.close();
  const second = setUp({ world, path, windowMs: 300 });
  second.driven.readings.splice(0, 1, LATER);
  expect((await verdicts(second.journal))[0]?.body).toMatchObject({ verdict: 'false' });
});

test('a new process that comes too late says that nobody knows', async () => {
  const path = join(temporaryFolder(), 'journal.sqlite');
  const world = new World();
  const first = setUp({ world, path, windowMs: 60_000 });
  await wakeUp(first.driven);
  await vi.waitUntil(() => first.journal.all('vm1', 'wakeWatched').length === 1, DEADLINE);
  first.driven.driver.stop();
  first.journal.close();
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 200_000 });
  onTestFinished(() => void vi.useRealTimers());
  const { journal } = setUp({ world, path, windowMs: 60_000 });
  expect((await verdicts(journal))[0]?.body).toMatchObject({
    verdict: 'unknown',
    because: ['the orchestrator was away when the minute was over'],
  });
});

test('a new process that finds no first look says that nobody knows', async () => {
  const path = join(temporaryFolder(), 'journal.sqlite');
  const world = new World();
  const first = setUp({ world, path });
  first.driven.readings.splice(0, 1, new Promise(() => {}));
  await wakeUp(first.driven);
  first.driven.driver.stop();
  first.journal.close();
  const { journal } = setUp({ world, path });
  expect((await verdicts(journal))[0]?.body).toMatchObject({
    verdict: 'unknown',
    because: ['the orchestrator was restarted before it looked'],
  });
});

function setUp({ world = new World(), path = ':memory:', windowMs = 20 } = {}) {
  const journal = openJournal(path);
  const driven = drive(world, journal, { windowMs });
  driven.driver.start();
  onTestFinished(() => driven.driver.stop());
  return { driven, journal, world };
}

async function wakeUp({ driver }: Driven): Promise<void> {
  driver.park();
  await driver.idle();
  driver.wake({ cause: 'syscall', at: new Date().toISOString(), trigger: TRIGGER });
  await driver.idle();
}

async function verdicts(journal: Journal) {
  await vi.waitUntil(() => journal.all('vm1', 'wakeJudged').length > 0, DEADLINE);
  return journal.all('vm1', 'wakeJudged');
}
