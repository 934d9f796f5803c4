/** The driver over a real journal, real sagas and the model of their ports. */
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { SeamlessError } from '../../../../common/errors.ts';
import { silentLog } from '../../../../common/log.ts';
import { type Journal, openJournal } from '../../../../orchestrator/saga/journal.ts';
import { parkSaga } from '../../../../orchestrator/sagas/park.ts';
import { unparkSaga } from '../../../../orchestrator/sagas/unpark.ts';
import { VmDriver } from '../../../../orchestrator/vm/driver.ts';
import { operationOf } from '../../../../orchestrator/vm/operation.ts';
import type { Wake } from '../../../../orchestrator/vm/state.ts';
import { temporaryFolder } from '../saga/suite.ts';
import { takeViolations, World } from '../sagas/world.ts';

const SYSCALL: Wake = {
  cause: 'syscall',
  trigger: { program: 'bash', pid: 812, syscall: 'clone', detail: 'clone(SIGCHLD): a new process' },
};
const DEADLINE = { timeout: 5000, interval: 2 };

test('a park and an unpark by hand leave the VM as it was', async () => {
  const { driver, world, journal } = setUp();
  expect(driver.park()).toMatchObject({ already: false });
  await driver.idle();
  expect(driver.state).toMatchObject({ kind: 'parked', parked: { sinkPort: 'p' } });
  world.assertAtRest('parked');
  const { operation } = await driver.unpark({ force: false });
  await driver.idle();
  expect(driver.state).toEqual({ kind: 'awake' });
  world.assertAtRest('awake');
  expect(operationOf(journal.ofSaga(operation as string))).toMatchObject({
    kind: 'unpark',
    status: 'succeeded',
    cause: 'manual',
    steps: expect.arrayContaining([
      { name: 'restore', status: 'done', ms: expect.any(Number), undoMs: null },
    ]),
  });
  expect(takeViolations()).toEqual([]);
});

test('a park of a VM that is parked, or being parked, is already so', async () => {
  const { driver } = setUp();
  const { operation } = driver.park();
  expect(driver.park()).toEqual({ already: true, operation });
  await driver.idle();
  expect(driver.park()).toEqual({ already: true, operation: null });
});

test('activity in the sink wakes a parked VM, and says what it was', async () => {
  const { driver, journal } = setUp();
  driver.park();
  await driver.idle();
  driver.wake(SYSCALL);
  driver.wake(SYSCALL);
  await driver.idle();
  expect(driver.state).toEqual({ kind: 'awake' });
  const unparks = journal.after(0, { vm: 'vm1', limit: 1000 }).filter(({ event }) => event === 'sagaCreated');
  expect(unparks).toHaveLength(2);
  expect(operationOf(journal.ofSaga(journal.lastSaga('vm1', 'unpark') ?? ''))).toMatchObject(SYSCALL);
});

test('a frozen sink wakes the VM also when only the agent’s first word after a reconnection says so', async () => {
  const { driver } = setUp();
  driver.park();
  await driver.idle();
  driver.sinkSays({ vm: 'vm1', state: 'frozen', port: 'p', imageId: 'i', trigger: null });
  await driver.idle();
  expect(driver.state.kind).toBe('awake');
});

test('an unpark before the pivot of a park takes the park back', async () => {
  const { driver, world, journal } = setUp();
  const reached = blockAt(world, 'sinkAgent.receive');
  const { operation } = driver.park();
  const release = await reached;
  await expect(driver.unpark({ force: false })).resolves.toEqual({ already: false, operation });
  release();
  await driver.idle();
  expect(driver.state).toEqual({ kind: 'awake' });
  world.assertAtRest('awake');
  expect(operationOf(journal.ofSaga(operation as string))).toMatchObject({ status: 'unwound' });
});

test('a wake during a park waits for the pivot, hurries it, and follows at once', async () => {
  const { driver, world } = setUp();
  const reached = blockAt(world, 'sinkAgent.run');
  driver.park();
  const release = await reached;
  driver.wake(SYSCALL);
  release();
  await driver.idle();
  expect(driver.state).toEqual({ kind: 'awake' });
  expect(world.calls.filter((call) => call === 'switchOff')).toHaveLength(1);
  world.assertAtRest('awake');
});

test('an unpark after the pivot of a park is answered with the unpark that follows', async () => {
  const { driver, world } = setUp();
  const reached = blockAt(world, 'sinkAgent.run');
  const { operation } = driver.park();
  const release = await reached;
  const reply = driver.unpark({ force: false });
  release();
  expect((await reply).operation).toMatch(/^unpark-vm1-/);
  expect((await reply).operation).not.toBe(operation);
  await driver.idle();
  expect(driver.state).toEqual({ kind: 'awake' });
});

test('connection requests that came during the park wake the VM as soon as they are found', async () => {
  const { driver, world } = setUp();
  world.heldAfterDivert = 2;
  driver.park();
  await driver.idle();
  expect(driver.state).toEqual({ kind: 'awake' });
});

test('a wake that fails is tried again, and the VM stays parked meanwhile', async () => {
  const { driver, world } = await afterFailedWake();
  world.assertAtRest('parked');
  driver.wake(SYSCALL);
  expect(driver.state.kind).toBe('parked');
  await vi.advanceTimersByTimeAsync(1000);
  await driver.idle();
  expect(driver.state).toEqual({ kind: 'awake' });
});

test('a sink that was stopped again while a wake failed wakes the VM at the retry, though no event says so', async () => {
  const { driver, world } = await afterFailedWake();
  if (world.sink) world.sink.state = 'frozen';
  await vi.advanceTimersByTimeAsync(1000);
  await vi.waitFor(() => expect(driver.state.kind).not.toBe('parked'));
  await driver.idle();
  expect(driver.state).toEqual({ kind: 'awake' });
});

test('a park that fails says why, and the VM is as before', async () => {
  const { driver, world, journal } = setUp();
  world.fault = (_call, name) => {
    if (name === 'vmAgent.scan')
      throw new SeamlessError('AGENT_UNREACHABLE', 'vm-agent:vm1 can’t be reached');
  };
  const { operation } = driver.park();
  await driver.idle();
  expect(driver.state).toEqual({ kind: 'awake' });
  expect(operationOf(journal.ofSaga(operation as string))).toMatchObject({
    status: 'unwound',
    error: { code: 'AGENT_UNREACHABLE' },
  });
});

test('a stuck VM refuses everything but a forced unpark, which mends it once the cause is gone', async () => {
  const { driver, world } = setUp();
  world.fault = (_call, name, when) => {
    if (name === 'sinkAgent.restore' && when === 'before') throw new SeamlessError('RESTORE_FAILED', 'no');
    if (name === 'vmAgent.restore') throw new SeamlessError('RESTORE_FAILED', 'no room');
  };
  driver.park();
  await driver.idle();
  expect(driver.state).toMatchObject({ kind: 'stuck', step: 'checkpoint', owner: { at: 'vm' } });
  expect(() => driver.park()).toThrow(expect.objectContaining({ code: 'VM_STUCK' }));
  await expect(driver.unpark({ force: false })).rejects.toMatchObject({ code: 'VM_STUCK' });
  world.fault = () => {};
  await driver.unpark({ force: true });
  await driver.idle();
  expect(driver.state).toEqual({ kind: 'awake' });
  world.assertAtRest('awake');
});

test('an unpark that got stuck in doubt is finished by a forced one, whichever way it had gone', async () => {
  for (const when of ['before', 'after'] as const) {
    const { driver, world } = setUp();
    driver.park();
    await driver.idle();
    let dead = false;
    world.fault = (_call, name, now) => {
      if (name === 'vmAgent.restore' && now === when) dead = true;
      if (dead && name.startsWith('vmAgent.')) throw new SeamlessError('AGENT_UNREACHABLE', 'gone');
    };
    driver.wake(SYSCALL);
    await driver.idle();
    expect(driver.state).toMatchObject({ kind: 'stuck', step: 'restore', owner: { at: 'sink' } });
    world.fault = () => {};
    await driver.unpark({ force: true });
    await driver.idle();
    expect(driver.state).toEqual({ kind: 'awake' });
    world.assertAtRest('awake');
  }
  expect(takeViolations()).toEqual([]);
});

test('a new process takes up where the journal says the old one was', async () => {
  const path = join(temporaryFolder(), 'journal.sqlite');
  const world = new World();
  const first = setUp({ world, journal: openJournal(path) });
  first.driver.park();
  await first.driver.idle();
  first.driver.stop();
  first.journal.close();
  const second = setUp({ world, journal: openJournal(path) });
  expect(second.driver.state).toMatchObject({ kind: 'parked', parked: { sinkPort: 'p' } });
  second.driver.wake(SYSCALL);
  await second.driver.idle();
  expect(second.driver.state).toEqual({ kind: 'awake' });
  world.assertAtRest('awake');
});

test('a packet that waits when the orchestrator comes back wakes the VM', async () => {
  const path = join(temporaryFolder(), 'journal.sqlite');
  const world = new World();
  const first = setUp({ world, journal: openJournal(path) });
  first.driver.park();
  await first.driver.idle();
  first.driver.stop();
  first.journal.close();
  world.heldSyns = 1;
  const second = setUp({ world, journal: openJournal(path) });
  await vi.waitUntil(() => second.driver.state.kind === 'awake', DEADLINE);
});

function setUp(over: { world?: World; journal?: Journal } = {}) {
  const world = over.world ?? new World();
  const journal = over.journal ?? openJournal(':memory:');
  const ports = world.ports();
  const quick = { persistMs: 20, retryAfterMs: 1 };
  const driver = new VmDriver({
    vm: 'vm1',
    journal,
    log: silentLog,
    park: { ...parkSaga(ports), ...quick },
    unpark: { ...unparkSaga(ports), ...quick },
    held: () => ports.network.held(),
    sink: () => ports.sinkAgent.call('status', { vm: 'vm1' }),
    reassert: ({ sinkPort, listeners }) => ports.network.toSink(sinkPort, listeners),
    onFatal: (error) => {
      throw error;
    },
  });
  driver.start();
  onTestFinished(() => driver.stop());
  return { driver, world, journal };
}

/** Parked again, since the VM could not be switched on; the retry waits for the clock. */
async function afterFailedWake() {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  const { driver, world } = setUp();
  driver.park();
  await driver.idle();
  failOnce(world, 'switchOn');
  driver.wake(SYSCALL);
  await driver.idle();
  expect(driver.state.kind).toBe('parked');
  return { driver, world };
}

/** The next call of this name fails before it does anything. */
function failOnce(world: World, name: string): void {
  let failures = 0;
  world.fault = (_call, called, when) => {
    if (called !== name || when !== 'before' || failures > 0) return;
    failures += 1;
    throw new SeamlessError('HOST_UNREACHABLE', `no ${name}`);
  };
}

/** Stops the next call of this name; resolves with what lets it go on. */
function blockAt(world: World, name: string): Promise<() => void> {
  return new Promise((reached) => {
    world.gate = (call) => {
      if (call !== name) return undefined;
      world.gate = () => undefined;
      return new Promise<void>((release) => reached(release));
    };
  });
}
