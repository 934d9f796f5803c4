import { expect, onTestFinished, test } from 'vitest';
import { openJournal } from '../../../../orchestrator/saga/journal.ts';
import type { OutsideDeps } from '../../../../orchestrator/vm/driver-deps.ts';
import { marksAfter, type OutsideChange } from '../../../../orchestrator/vm/outside-change.ts';
import { World } from '../sagas/world.ts';
import { type Driven, drive } from './driven.ts';

const NONE = { power: null, place: null };

function change(what: OutsideChange['what'], host: string | null = null): OutsideChange {
  return { what, requestId: 'req-1', host, by: 'Nova' };
}

interface Known extends Driven {
  world: World;
  gone: { now: boolean | Error; forgotten: (string | null)[]; failures: number };
  /** The same VM for a new process. */
  again(id?: string): Driven['driver'];
}

function known(): Known {
  const world = new World();
  const journal = openJournal(':memory:');
  const gone: Known['gone'] = { now: false, forgotten: [], failures: 0 };
  const outside = (id = 'server-1'): OutsideDeps => ({
    id,
    home: 'hv',
    async isGone() {
      if (gone.now instanceof Error) throw gone.now;
      return gone.now;
    },
    async forget(sinkPort) {
      gone.forgotten.push(sinkPort);
      if (gone.failures > 0) {
        gone.failures -= 1;
        throw new Error('the sink agent does not answer');
      }
      world.sink = null;
    },
  });
  const driven = drive(world, journal, { outside: outside() });
  driven.driver.start();
  onTestFinished(() => {
    driven.driver.stop();
    journal.close();
  });
  return {
    ...{ ...driven, world, gone },
    again(id) {
      driven.driver.stop();
      const { driver } = drive(world, journal, { outside: outside(id) });
      driver.start();
      onTestFinished(() => driver.stop());
      return driver;
    },
  };
}

async function parked(): Promise<Known> {
  const vm = known();
  vm.driver.park();
  await vm.driver.idle();
  expect(vm.driver.state.kind).toBe('parked');
  return vm;
}

test('what somebody else has suspended, stopped or moved is not parked, and says why; resumed, started or moved back it is', async () => {
  const { driver } = known();
  for (const [away, back] of [
    [change('suspended'), change('resumed')],
    [change('stopped'), change('started')],
    [change('moved', 'other'), change('moved', 'hv')],
  ] as const) {
    await driver.changedOutside(away);
    expect(() => driver.park()).toThrow(
      expect.objectContaining({ code: 'VM_OUTSIDE', message: expect.stringContaining('req-1') }),
    );
    await driver.changedOutside(back);
  }
  expect(driver.park()).toMatchObject({ already: false });
  await driver.idle();
});

test('what is in the way is known to a new process, but not of another server under that name', async () => {
  const vm = known();
  await vm.driver.changedOutside(change('stopped'));
  expect(() => vm.again().park()).toThrow(expect.objectContaining({ code: 'VM_OUTSIDE' }));
  const other = vm.again('server-2');
  expect(other.park()).toMatchObject({ already: false });
  await other.idle();
});

test('a parked VM that somebody resumes is woken, with that as the cause', async () => {
  const { driver, world } = await parked();
  await driver.changedOutside(change('resumed'));
  await driver.idle();
  expect(driver.state.kind).toBe('awake');
  world.assertAtRest('awake');
});

test('a parked VM that has moved is not woken where it was: its sink goes on answering until it is back', async () => {
  const { driver, world } = await parked();
  await driver.changedOutside(change('moved', 'other'));
  await expect(driver.unpark({ force: false })).rejects.toMatchObject({
    code: 'VM_OUTSIDE',
    message: expect.stringContaining('moved to other'),
  });
  driver.sinkSays({ vm: 'vm1', state: 'frozen' } as Parameters<typeof driver.sinkSays>[0]);
  expect(driver.state.kind).toBe('parked');
  expect(world.sink?.state).toBe('running');
  await driver.changedOutside(change('moved', 'hv'));
  await driver.idle();
  expect(driver.state.kind).toBe('awake');
});

test('a parked VM that was deleted is gone: its sink is destroyed, once Nova has confirmed it', async () => {
  const { driver, world, gone } = await parked();
  await driver.changedOutside(change('deleted'));
  expect(driver.state.kind).toBe('parked');
  expect(world.sink?.state).toBe('running');
  gone.now = true;
  await driver.changedOutside(change('deleted'));
  await expect
    .poll(() => driver.state)
    .toMatchObject({ kind: 'gone', sink: 'destroyed', requestId: 'req-1' });
  expect(gone.forgotten).toEqual(['p']);
  expect(() => driver.park()).toThrow(expect.objectContaining({ code: 'VM_GONE' }));
  await expect(driver.unpark({ force: true })).rejects.toMatchObject({ code: 'VM_GONE' });
});

test('when nobody can say whether it was deleted, nothing is destroyed, and the one who told is to tell again', async () => {
  const { driver, world, gone } = await parked();
  gone.now = new Error('Nova does not answer');
  await expect(driver.changedOutside(change('deleted'))).rejects.toThrow('Nova does not answer');
  expect(world.sink?.state).toBe('running');
  expect(gone.forgotten).toEqual([]);
});

test('a sink that could not be destroyed is destroyed by the next process; another server under that name begins anew', async () => {
  const vm = await parked();
  Object.assign(vm.gone, { now: true, failures: 1 });
  await vm.driver.changedOutside(change('deleted'));
  await expect.poll(() => vm.gone.forgotten.length).toBe(1);
  const next = vm.again();
  await expect.poll(() => next.state).toMatchObject({ kind: 'gone', sink: 'destroyed' });
  expect(vm.again('server-1').state.kind).toBe('gone');
  expect(vm.again('server-2').state.kind).toBe('awake');
});

test('deleted while it parks, it is gone when the park has ended', async () => {
  const vm = known();
  const gate = Promise.withResolvers<void>();
  const entered = Promise.withResolvers<void>();
  vm.world.gate = (name) => {
    if (name !== 'switchOff') return Promise.resolve();
    entered.resolve();
    return gate.promise;
  };
  vm.driver.park();
  await entered.promise;
  vm.gone.now = true;
  await vm.driver.changedOutside(change('deleted'));
  expect(vm.driver.state.kind).toBe('parking');
  gate.resolve();
  await vm.driver.idle();
  await expect.poll(() => vm.driver.state.kind).toBe('gone');
});

test('what is remembered tells who did it, and where the VM is', () => {
  expect(marksAfter(NONE, change('moved', 'other'), 'hv').place).toContain(
    'was moved to other by somebody else (Nova, request req-1)',
  );
  expect(marksAfter(NONE, change('deleted'), 'hv')).toEqual(NONE);
});
