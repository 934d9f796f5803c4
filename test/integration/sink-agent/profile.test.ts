/** A daemon's housekeeping is answered in the sink as in the VM, without a wake, when the profile says so; anything more wakes. */
import { mkdir, readFile, symlink, utimes, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { AllowedCall } from '../../../criu/answers.ts';
import { startParking } from './fixtures/parking.ts';
import { startWorld, type World } from './fixtures/world.ts';

const FOLDER = '/etc/echo';
const ALLOW: AllowedCall[] = (['stat', 'open'] as const).flatMap((effect) => [
  { program: 'perl', effect, path: `${FOLDER}/*.conf` },
  { program: 'perl', effect, path: '/etc/echo.conf' },
  { program: 'perl', effect, path: '/etc/debian_version' },
]);
let world: World;

beforeAll(async () => {
  world = await startWorld(7);
  const etc = `${world.vm.root}/etc`;
  await mkdir(`${etc}/echo`);
  await writeFile(`${etc}/echo/main.conf`, 'greeting=hello');
  await utimes(`${etc}/echo/main.conf`, 1_600_000_000, 1_600_000_000);
  await writeFile(`${etc}/echo/secret`, 'x');
  await symlink('echo/main.conf', `${etc}/echo.conf`);
  // The template has it, and the VM's owner has removed it.
  await world.vm.run('rm', '/etc/debian_version');
}, 1_000_000);

afterAll(() => world?.end(), 60_000);

test('files that the profile names are answered in the sink, through a new agent too, and the rest wakes', async () => {
  const parking = await startParking(world, undefined, ALLOW);
  const { echo } = parking;
  const looks: [string, string][] = [
    [`${FOLDER}/main.conf`, '14 1600000000 greeting=hello'],
    ['/etc/echo.conf', '14 1600000000 greeting=hello'],
    [`${FOLDER}/lacking.conf`, 'nothing'],
    ['/etc/debian_version', 'nothing'],
  ];
  let line = 1;
  const look = async () => {
    for (const [path, answer] of looks) {
      echo.say(`look ${path}\n`);
      await echo.hears(`${++line} look ${path} ${answer}`);
    }
  };
  await look(); // in the VM
  await parking.park('there');
  await look();
  await parking.killAgent();
  await parking.startAgent();
  await parking.becomes('running');
  await look();
  expect((await parking.becomes('running')).trigger).toBeNull();

  echo.say(`look ${FOLDER}/secret\n`);
  const { trigger } = await parking.becomes('frozen');
  expect(trigger).toMatchObject({ program: 'perl', rule: 'file.name' });
  expect(trigger?.detail).toContain(`"${FOLDER}/secret"`);
  expect(trigger?.client).toMatch(/^10\.88\.0\.\d+:\d+$/);
  await parking.unpark('back');
  const mtime = Number(await world.vm.run('stat', '-c', '%Y', `${FOLDER}/secret`));
  await echo.hears(`${++line} look ${FOLDER}/secret 1 ${mtime} x`);
  expect(await readFile(`${world.vm.root}/etc/echo/main.conf`, 'utf8')).toBe('greeting=hello');
  await look(); // in the VM again
}, 60_000);

test('a sink that is restored from the way back answers as before', async () => {
  const parking = await startParking(world, undefined, ALLOW);
  const client = parking.client();
  const vm = world.name;
  await parking.park('there-2');
  await world.network.unplug(world.sinkPort); // a packet that finds no socket would be answered by a reset
  await client.call('freeze', { vm });
  await client.call('checkpoint', { vm, imageId: 'unused' });
  await client.call('restore', { vm, imageId: 'unused' });
  await world.network.plug(world.sinkPort);
  await client.call('run', { vm });
  parking.echo.say(`look ${FOLDER}/main.conf\n`);
  await parking.echo.hears(`2 look ${FOLDER}/main.conf 14 1600000000 greeting=hello`);
  expect((await parking.becomes('running')).trigger).toBeNull();
  parking.echo.say('write x\n');
  await parking.becomes('frozen');
  await parking.unpark('back-2');
  await parking.expectClientsAlive(4);
}, 60_000);
