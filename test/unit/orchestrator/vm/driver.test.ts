/** The driver over a real journal, real sagas and the model of their ports. */
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { SeamlessError } from '../../../../common/errors.ts';
import { type Journal, openJournal } from '../../../../orchestrator/saga/journal.ts';
import { type Operation, operationOf } from '../../../../orchestrator/vm/operation.ts';
import type { Wake } from '../../../../orchestrator/vm/state.ts';
import { wakeLine } from '../../../../orchestrator/vm/wake.ts';
import { wakeReport } from '../../../../orchestrator/vm/wake-report.ts';
import { temporaryFolder } from '../saga/suite.ts';
import { takeViolations, World } from '../sagas/world.ts';
import { drive, TRIGGER } from './driven.ts';

const SYSCALL: Wake = { cause: 'syscall', at: '2026-11-21T03:00:00.000Z', trigger: TRIGGER };
const LOST = { host: 'hv', since: '2026-11-21T03:00:00.000Z', reason: 'no answer', next: 'Look.' };
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

test('a park by the service says so and why, and is taken back when somebody comes', async () => {
  const { driver, world, journal, moves } = setUp();
  const because = { cause: 'idle', rule: 'idle (policy.yaml:3, windowMs)' } as const;
  const atDump = blockAt(world, 'vmAgent.checkpoint');
  driver.park(because);
  const goOn = await atDump;
  expect(driver.abortPark()).toBe(true);
  expect(driver.abortPark()).toBe(false);
  goOn();
  await driver.idle();
  world.assertAtRest('awake');
  expect(moves).toEqual([
    { state: 'parking', cause: null, error: null },
    { state: 'awake', cause: 'use', error: expect.objectContaining({ code: 'ABORTED' }) },
  ]);
  expect(operationOf(journal.ofSaga(journal.lastSaga('vm1', 'park') ?? ''))).toMatchObject(because);
});

test('a park by hand is nobody else’s to take back', async () => {
  const { driver, world, moves } = setUp();
  const atDump = blockAt(world, 'vmAgent.checkpoint');
  driver.park();
  const goOn = await atDump;
  expect(driver.abortPark()).toBe(false);
  goOn();
  await driver.idle();
  expect(driver.abortPark()).toBe(false);
  await driver.unpark({ force: false });
  await driver.idle();
  expect(moves.map(({ state, cause }) => [state, cause])).toEqual([
    ['parking', null],
    ['parked', null],
    ['unparking', 'manual'],
    ['awake', null],
  ]);
});

test('after a crash a park is still the service’s', async () => {
  const journal = openJournal(':memory:');
  const first = setUp({ journal });
  void blockAt(first.world, 'vmAgent.checkpoint');
  first.driver.park({ cause: 'idle', rule: 'idle' });
  const second = setUp({ journal });
  expect(second.driver.abortPark()).toBe(true);
  await second.driver.idle();
  expect(second.driver.state).toEqual({ kind: 'awake' });
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
  expect(operationOf(journal.ofSaga(journal.lastSaga('vm1', 'unpark') ?? ''))).toMatchObject({
    cause: 'syscall',
    trigger: TRIGGER,
  });
  const recorded = journal.all('vm1', 'wake');
  expect(recorded.map(({ body }) => body)).toEqual([
    { ...SYSCALL, operation: journal.lastSaga('vm1', 'unpark') },
  ]);
});

test('a wake says what the clients saw of it, and what is known of its trigger', async () => {
  const { driver, world, journal } = setUp();
  driver.park();
  await driver.idle();
  const atFreeze = blockAt(world, 'sinkAgent.freeze');
  driver.wake(SYSCALL);
  const goOn = await atFreeze;
  world.sent.sink = { packets: 5, bytes: 500 };
  goOn();
  await driver.idle();
  const records = journal.ofSaga(journal.lastSaga('vm1', 'unpark') ?? '');
  const operation = operationOf(records) as Operation;
  expect(wakeReport(records, operation)).toMatchObject({
    operation: operation.id,
    at: SYSCALL.at,
    cause: 'syscall',
    line: 'woken by sshd[812] for 203.0.113.7:51312: openat("/var/log/lastlog", O_RDWR): opens a file; the VM has the real ones',
    rule: 'file.open',
    reason: 'opens a file; the VM has the real ones',
    call: 'openat("/var/log/lastlog", O_RDWR)',
    client: '203.0.113.7:51312',
    trigger: TRIGGER,
    seen: { firstHeldMs: 7, heldPackets: expect.any(Number), heldConnections: 0, sinkAnswers: 5 },
  });
});

test('a sink that was stopped by no call is an honest cause, with its reason', async () => {
  const { driver, journal } = setUp();
  driver.park();
  await driver.idle();
  const lost = { trigger: null, reason: 'the syscall filter ended: ended by SIGKILL' };
  driver.sinkSays({ vm: 'vm1', state: 'frozen', port: 'p', imageId: 'i', ...lost });
  await driver.idle();
  const [wake] = journal.all('vm1', 'wake');
  expect(wake?.body).toMatchObject({ cause: 'sink', trigger: { rule: 'sink.stopped', detail: lost.reason } });
  expect(wakeLine(wake?.body as unknown as Wake)).toBe(
    'woken because its sink stopped: the syscall filter ended: ended by SIGKILL',
  );
});

test('a VM whose QEMU has gone keeps its sink, however often a wake is tried', async () => {
  const { driver, world } = await afterFailedWake((world) => world.loseHypervisor());
  for (let retry = 0; retry < 3; retry += 1) {
    await vi.advanceTimersByTimeAsync(60_000);
    await driver.idle();
  }
  expect(driver.state.kind).toBe('parked');
  expect(world.sink).toMatchObject({ state: 'running' });
  expect(world.calls.filter((call) => call === 'sinkAgent.destroy')).toEqual([]);
  expect(takeViolations()).toEqual([]);
  world.assertNothingLost();
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

test('an unpark that comes while the flows are flipped is too late to take the park back, and wakes the VM', async () => {
  const { driver, world, journal } = setUp();
  const reached = blockAt(world, 'toSink');
  const { operation } = driver.park();
  const release = await reached;
  await driver.unpark({ force: false });
  release();
  await driver.idle();
  expect(operationOf(journal.ofSaga(operation as string))).toMatchObject({ status: 'succeeded' });
  expect(driver.state).toEqual({ kind: 'awake' });
  world.assertAtRest('awake');
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

test('a VM whose QEMU is known to have gone is not tried to be woken, and is once QEMU is back', async () => {
  const { driver, world, journal, hypervisor } = setUp();
  driver.park();
  await driver.idle();
  hypervisor.lost = true;
  driver.wake(SYSCALL);
  driver.wake(SYSCALL);
  await driver.idle();
  expect(driver.state.kind).toBe('parked');
  expect(world.sink?.state).toBe('running');
  expect(journal.all('vm1', 'wake').map(({ body }) => body.operation)).toEqual([null]);
  driver.retryWake();
  expect(driver.state.kind).toBe('parked');
  hypervisor.lost = false;
  driver.retryWake();
  await driver.idle();
  expect(driver.state.kind).toBe('awake');
  expect(journal.all('vm1', 'wake')).toHaveLength(1);
});

test('a VM is not parked while its host, or its sink server’s, can’t be reached, and the reason is said', async () => {
  const { driver, world, unreachable } = setUp();
  for (const which of ['vm', 'sink'] as const) {
    unreachable[which] = LOST;
    expect(() => driver.park()).toThrow(
      /not parked while hv can’t be reached \(since .*\): no answer\. Look/,
    );
    unreachable[which] = null;
  }
  expect(world.calls).toEqual([]);
  driver.park();
  await driver.idle();
  expect(driver.state.kind).toBe('parked');
});

test('a wake waits while the host of its VM can’t be reached, and begins when that is back', async () => {
  const { driver, journal, unreachable } = setUp();
  driver.park();
  await driver.idle();
  unreachable.vm = LOST;
  driver.wake(SYSCALL);
  driver.retryWake();
  await driver.idle();
  expect(driver.state.kind).toBe('parked');
  expect(journal.lastSaga('vm1', 'unpark')).toBeNull();
  unreachable.vm = null;
  driver.retryWake();
  await driver.idle();
  expect(driver.state.kind).toBe('awake');
  expect(journal.all('vm1', 'wake')).toHaveLength(1);
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
  const { driver, hypervisor, moves, unreachable } = drive(world, journal);
  driver.start();
  onTestFinished(() => driver.stop());
  return { driver, world, journal, hypervisor, moves, unreachable };
}

/** Parked again, since the VM could not be switched on; the retry waits for the clock. */
async function afterFailedWake(breakIt = (world: World) => failOnce(world, 'switchOn')) {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  const { driver, world } = setUp();
  driver.park();
  await driver.idle();
  breakIt(world);
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
