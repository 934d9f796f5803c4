/** Whatever dies or fails: no process of a sink runs unwatched, none is lost, and the sink goes on or says what is wrong. */
import { existsSync } from 'node:fs';
import { readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dumpImage } from '../../../sink-agent/checkpoint.ts';
import { openImageStore } from '../../../sink-agent/images.ts';
import type { SinkRecord } from '../../../sink-agent/record.ts';
import { restoredTrees } from '../../../sink-agent/restore/restore.ts';
import { treeProcesses } from '../../../sink-agent/sandbox/cgroup.ts';
import { launcher } from '../../fixtures/launcher.ts';
import { startParking } from './fixtures/parking.ts';
import { endChild } from './fixtures/vm-container.ts';
import { waitFor } from './fixtures/wait.ts';
import { startWorld, type World } from './fixtures/world.ts';

let world: World;

beforeAll(async () => {
  world = await startWorld(2);
}, 1_000_000);

afterAll(() => world?.end(), 60_000);

const cgroup = () => world.sinkCgroup();

async function isFrozen(): Promise<boolean> {
  return (await readFile(join(cgroup().processes, 'cgroup.events'), 'utf8')).includes('frozen 1');
}

/** The PID of the filter of this test's agent. */
async function filterPid(agentPid: number): Promise<number> {
  const children = (await readFile(`/proc/${agentPid}/task/${agentPid}/children`, 'utf8'))
    .trim()
    .split(' ')
    .map(Number);
  const names = await Promise.all(
    children.map((pid) => readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')),
  );
  return children[names.findIndex((name) => name.trim() === 'syscall-filter')] ?? -1;
}

test('kill -9 of the agent freezes its sinks, and the next agent lets them go on under a filter', async () => {
  const parking = await startParking(world);
  await parking.park('one');
  await parking.killAgent();
  await waitFor('frozen processes', async () => ((await isFrozen()) ? true : null));
  parking.echo.say('two\n');
  await parking.startAgent();

  await parking.becomes('running');
  await parking.echo.hears('2 two');
  parking.echo.say('write three\n');
  expect((await parking.becomes('frozen')).trigger).toMatchObject({ program: 'perl', syscall: 'write' });
  await parking.unpark('one-back');
  await parking.echo.hears('3 write three');
  await parking.expectClientsAlive(4);
}, 60_000);

test('kill -9 of the agent with a frozen sink keeps it frozen, with its way back open', async () => {
  const parking = await startParking(world);
  await parking.park('frozen');
  await parking.client().call('freeze', { vm: world.name });
  await parking.killAgent();
  await parking.startAgent();
  expect(await parking.client().call('status', { vm: world.name })).toMatchObject({
    state: 'frozen',
    imageId: 'frozen',
  });
  await parking.unpark('frozen-back');
  await parking.expectClientsAlive(2);
}, 60_000);

test('the death of the filter freezes the sink at once, and is told with its reason', async () => {
  const parking = await startParking(world);
  await parking.park('two');
  process.kill(await filterPid(parking.agent().child.pid ?? -1), 'SIGKILL');
  const status = await parking.becomes('frozen');
  expect(status).toMatchObject({ trigger: null, reason: expect.stringContaining('filter') });
  expect(await isFrozen()).toBe(true);

  const again = await parking.client().call('run', { vm: world.name });
  expect(again).toMatchObject({ state: 'running' });
  expect(again.reason).toBeUndefined();
  parking.echo.say('two\n');
  await parking.echo.hears('2 two');
  await parking.client().call('freeze', { vm: world.name });
  await parking.unpark('two-back');
  await parking.expectClientsAlive(3);
}, 60_000);

test('a dump that fails for one process tree takes none away', async () => {
  const parking = await startParking(world);
  await parking.park('three');
  await parking.client().call('freeze', { vm: world.name });
  const before = await treeProcesses(cgroup());
  const stranger = world.echoClient(); // its connection is complete, but nobody will accept it here: CRIU can't dump that
  await waitFor('a connection in the queue', async () => ((await queued()) > 0 ? true : null));

  await expect(
    parking.client().call('checkpoint', { vm: world.name, imageId: 'three-back' }),
  ).rejects.toMatchObject({
    code: 'CHECKPOINT_FAILED',
    message: expect.stringContaining('In-flight'),
  });
  expect(await parking.client().call('status', { vm: world.name })).toMatchObject({
    state: 'frozen',
    imageId: 'three',
  });
  expect((await treeProcesses(cgroup())).sort()).toEqual(before.sort());
  expect(await isFrozen()).toBe(true);

  // They are as alive as before: let go, the service takes the connection up, which is activity.
  await parking.client().call('run', { vm: world.name });
  expect((await parking.becomes('frozen')).trigger).toMatchObject({
    program: 'perl',
    rule: 'connection.new',
  });
  await endChild(stranger.child);
}, 60_000);

/** Connections at the echo service that nobody has accepted: a listening socket's receive queue, see proc(5). */
async function queued(): Promise<number> {
  const [pid] = await treeProcesses(cgroup());
  const tcp = await readFile(`/proc/${pid}/net/tcp`, 'utf8');
  const queue = / [0-9A-F]{8}:1B58 [0-9A-F]{8}:0000 0A [0-9A-F]{8}:([0-9A-F]{8}) /.exec(tcp)?.[1];
  return Number.parseInt(queue ?? '0', 16);
}

test.each([
  ['at its start', (folder: string) => existsSync(folder)],
  ['with a tree written', (folder: string) => existsSync(join(folder, 'echo', 'inventory.img'))],
])(
  'kill -9 of the agent in a dump, %s, leaves the sink frozen or dumped, never both or none',
  async (when, isThere) => {
    const parking = await startParking(world);
    await parking.park(`four-${when.length}`);
    await parking.client().call('freeze', { vm: world.name });
    const imageId = `four-back-${when.length}`;
    const folder = join(parking.agent().stateDir, 'images', world.name, `${imageId}.dumping`);
    const dump = parking.client().call('checkpoint', { vm: world.name, imageId });
    dump.catch(() => {}); // the agent dies
    await waitFor('a dump under way', () => (isThere(folder) ? true : null));
    await parking.killAgent();
    await parking.startAgent();

    const status = await parking.client().call('status', { vm: world.name });
    const alive = (await treeProcesses(cgroup())).length;
    expect([status?.state, alive > 0]).toEqual(
      status?.state === 'dumped' ? ['dumped', false] : ['frozen', true],
    );
    await parking.unpark(imageId);
    await parking.expectClientsAlive(2);
  },
  60_000,
);

test('an agent that died when it had dumped one of two trees is followed by one that brings that tree back', async () => {
  const parking = await startParking(world);
  await parking.park('half');
  await parking.client().call('freeze', { vm: world.name });
  const { stateDir } = parking.agent();
  await parking.killAgent();
  const file = join(stateDir, 'sinks', `${world.name}.json`);
  const record = JSON.parse(await readFile(file, 'utf8')) as SinkRecord;
  const images = await openImageStore(join(stateDir, 'images'));
  const parked = await images.read(world.name, 'half');
  if (!parked || !record.init) throw new Error('expected a sink with an image');
  const { criuVersion } = parked;
  const target = { init: record.init, cgroup: cgroup(), limits: [], criuVersion, launcher };
  const manifest = {
    ...parked,
    imageId: 'half-back',
    trees: await restoredTrees(target, parked),
  };
  await images.begin(manifest);
  const echo = manifest.trees.filter(({ folder }) => folder === 'echo');
  await dumpImage(target, { ...manifest, trees: echo }, images.dumpingPath(world.name, 'half-back'));
  await writeFile(file, JSON.stringify({ ...record, step: 'dumping', stepImageId: 'half-back' }));
  await parking.startAgent();

  expect(await parking.client().call('status', { vm: world.name })).toMatchObject({
    state: 'frozen',
    imageId: 'half',
  });
  expect(await isFrozen()).toBe(true);
  await parking.client().call('run', { vm: world.name });
  parking.echo.say('two\n');
  await parking.echo.hears('2 two', 20_000);
  await parking.client().call('freeze', { vm: world.name });
  await parking.unpark('half-back');
  await parking.expectClientsAlive(3);
}, 60_000);

test('a restore that fails leaves no process, and a good image can be restored after it', async () => {
  const parking = await startParking(world);
  const client = parking.client();
  const vm = world.name;
  await parking.leave('five');
  await client.call('receive', { vm, imageId: 'five' });
  const folder = join(parking.agent().stateDir, 'images', vm, 'five', 'echo');
  const core = join(folder, (await readdir(folder)).find((name) => name.startsWith('core-')) ?? '');
  const whole = await readFile(core);
  await truncate(core, 100);
  await expect(client.call('restore', { vm, imageId: 'five' })).rejects.toMatchObject({
    code: 'RESTORE_FAILED',
    details: { log: expect.arrayContaining([expect.stringContaining('Error')]) },
  });
  expect(existsSync(cgroup().path)).toBe(false);
  expect(await client.call('status', { vm })).toMatchObject({ state: 'prepared' });

  await writeFile(core, whole);
  expect(await client.call('restore', { vm, imageId: 'five' })).toMatchObject({ state: 'restored' });
  await world.network.adopt(world.sinkPort);
  await world.network.plug(world.sinkPort);
  await client.call('run', { vm });
  parking.echo.say('two\n');
  await parking.echo.hears('2 two', 20_000);
}, 60_000);

test('an image that does not arrive whole is refused and leaves nothing', async () => {
  const parking = await startParking(world);
  await parking.leave('six');
  await truncate(join(world.vm.images, 'six', 'manifest.json'), 10);
  await expect(parking.client().call('receive', { vm: world.name, imageId: 'six' })).rejects.toMatchObject({
    code: 'IMAGE_CORRUPT',
  });
  await expect(parking.client().call('receive', { vm: world.name, imageId: 'nothing' })).rejects.toThrow();
  await expect(
    parking.client().call('restore', { vm: world.name, imageId: 'nothing' }),
  ).rejects.toMatchObject({
    code: 'AGENT_REFUSED',
  });
}, 60_000);
