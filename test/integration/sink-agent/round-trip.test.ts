/** A VM's processes go to a sink, stay there under the filter with their clients, and come back at the first forbidden call. */
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startParking } from './fixtures/parking.ts';
import { startWorld, type World } from './fixtures/world.ts';

let world: World;

beforeAll(async () => {
  world = await startWorld(1);
}, 1_000_000);

afterAll(() => world?.end(), 60_000);

test('a command typed into a parked ssh session is stopped before its first forbidden call, and runs after the way back', async () => {
  const parking = await startParking(world);
  const { ssh, echo } = parking;
  await parking.park('there');

  echo.say('two\n');
  await echo.hears('2 two'); // answered in the sink
  expect((await parking.becomes('running')).trigger).toBeNull();
  ssh.say('cat /etc/hostname > /tmp/proof; echo done-$where\n');
  const { trigger } = await parking.becomes('frozen');
  expect(trigger).toMatchObject({ program: 'bash' });
  await parking.unpark('back');

  await ssh.hears('done-variable');
  await parking.expectClientsAlive(3);
  expect(await readFile(`${world.vm.root}/tmp/proof`, 'utf8')).not.toBe('');
}, 60_000);

test('processes whose way back fails are restored from their image and go on in the sink', async () => {
  const parking = await startParking(world);
  const { echo } = parking;
  const client = parking.client();
  await parking.park('there-2');
  await client.call('freeze', { vm: world.name });
  await client.call('checkpoint', { vm: world.name, imageId: 'unused' });
  echo.say('two\n'); // to nobody, and no reset comes back: it waits in the client's stack
  const restored = await client.call('restore', { vm: world.name, imageId: 'unused' });
  expect(restored).toMatchObject({ state: 'restored', imageId: 'unused', trigger: null });
  await client.call('run', { vm: world.name });
  await echo.hears('2 two');
  echo.say('write three\n');
  const { trigger } = await parking.becomes('frozen');
  expect(trigger).toMatchObject({ program: 'perl', syscall: 'write', fd: { target: '/var/log/echo.log' } });
  await parking.unpark('back-2');
  await echo.hears('3 write three');
  expect(await readFile(`${world.vm.root}/var/log/echo.log`, 'utf8')).toBe('write three\n'); // once, and only there
  await parking.expectClientsAlive(4);
}, 60_000);

test('a write to what stayed in the VM is activity', async () => {
  const parking = await startParking(world);
  await parking.park('there-3');
  parking.echo.say('say hello\n'); // the service logs it to its journal stream
  const { trigger } = await parking.becomes('frozen');
  expect(trigger).toMatchObject({ program: 'perl', syscall: 'write', fd: { number: 1 } });
  await parking.unpark('back-3');
  await parking.echo.hears('2 say hello');
  await parking.expectClientsAlive(3);
}, 60_000);

test('every request is answered with the present state when repeated', async () => {
  const parking = await startParking(world);
  const client = parking.client();
  const vm = world.name;
  await parking.leave('there-4');
  expect(await parking.prepare()).toMatchObject({ state: 'prepared', port: world.sinkPort });
  const first = await client.call('receive', { vm, imageId: 'there-4' });
  expect(await client.call('receive', { vm, imageId: 'there-4' })).toEqual({
    ...first,
    bytes: expect.any(Number),
    ms: 0,
  });
  for (const imageId of ['there-4', 'there-4']) {
    expect(await client.call('restore', { vm, imageId })).toMatchObject({ state: 'restored', imageId });
  }
  for (const _time of [1, 2]) expect(await client.call('run', { vm })).toMatchObject({ state: 'running' });
  expect(await parking.prepare()).toMatchObject({ state: 'running' });
  for (const _time of [1, 2]) expect(await client.call('freeze', { vm })).toMatchObject({ state: 'frozen' });
  const dumped = await client.call('checkpoint', { vm, imageId: 'back-4' });
  expect(await client.call('checkpoint', { vm, imageId: 'back-4' })).toEqual(dumped);
  // The VM has all but what has changed since.
  const sent = await client.call('send', { vm, imageId: 'back-4' });
  expect(sent.bytes).toBeLessThan(dumped.bytes / 2);
  await client.call('send', { vm, imageId: 'back-4' });
  for (const _time of [1, 2]) await client.call('destroy', { vm });
  expect(await client.call('status', { vm })).toBeNull();
  await world.vm.restore('back-4');
  await world.network.plug(world.vmPort);
  await parking.expectClientsAlive(2);
}, 60_000);
