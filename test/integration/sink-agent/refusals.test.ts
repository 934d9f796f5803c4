/** What the agent does not do: for strangers, for VMs of another template, with what may be the only copy. */
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exec } from '../../../common/exec.ts';
import type { Manifest } from '../../../criu/manifest.ts';
import { startParking } from './fixtures/parking.ts';
import { NETWORK } from './fixtures/production-network.ts';
import { startWorld, type World } from './fixtures/world.ts';

let world: World;

beforeAll(async () => {
  world = await startWorld(3);
}, 1_000_000);

afterAll(() => world?.end(), 60_000);

test('only the orchestrator is answered', async () => {
  const parking = await startParking(world);
  const stranger = parking.agent().clientOf(world.agentOptions.certificates.stranger);
  await expect(stranger.call('describe', {})).rejects.toMatchObject({ code: 'AGENT_REFUSED' });
  stranger.close();
  const description = await parking.client().call('describe', {});
  expect(description).toMatchObject({
    name: 'sls',
    templateIds: expect.arrayContaining([world.template.id]),
    criuVersion: '4.2.1',
    sinks: [],
  });
  expect(description.memoryAvailableBytes).toBeGreaterThan(1e6);
}, 60_000);

test('a VM of an unknown template, or with a name that is none, gets no sink', async () => {
  const parking = await startParking(world);
  const params = {
    vm: world.name,
    templateId: 'f'.repeat(64),
    network: NETWORK,
    vmAgent: world.vmAgent.address,
  };
  await expect(parking.client().call('prepare', params)).rejects.toMatchObject({ code: 'TEMPLATE_MISMATCH' });
  expect(await parking.client().call('status', { vm: world.name })).toBeNull();
  expect(existsSync(world.sinkCgroup().path)).toBe(false);
  const escaping = { ...params, vm: '../escape' };
  await expect(parking.client().call('prepare', escaping)).rejects.toMatchObject({ code: 'REQUEST_INVALID' });
}, 60_000);

test('an executable that differs from the template’s is named, and nothing is restored', async () => {
  const parking = await startParking(world);
  await parking.leave('other');
  const file = join(world.vm.images, 'other', 'manifest.json');
  const manifest = JSON.parse(await readFile(file, 'utf8')) as Manifest;
  for (const held of manifest.files) if (held.path === '/usr/sbin/sshd') held.size += 1;
  await writeFile(file, JSON.stringify(manifest));
  await parking.client().call('receive', { vm: world.name, imageId: 'other' });
  await expect(parking.client().call('restore', { vm: world.name, imageId: 'other' })).rejects.toMatchObject({
    code: 'TEMPLATE_MISMATCH',
    message: expect.stringContaining('/usr/sbin/sshd'),
  });
}, 60_000);

test('a sink that may hold the only copy is not destroyed without force, and leaves nothing when it is', async () => {
  const parking = await startParking(world);
  const vm = world.name;
  await parking.park('kept');
  const refused = { code: 'AGENT_REFUSED', message: expect.stringContaining('only copy') };
  await expect(parking.client().call('destroy', { vm })).rejects.toMatchObject(refused);
  await parking.client().call('freeze', { vm });
  await expect(parking.client().call('destroy', { vm })).rejects.toMatchObject(refused);
  await parking.client().call('checkpoint', { vm, imageId: 'kept-back' });
  await expect(parking.client().call('destroy', { vm })).rejects.toMatchObject(refused);
  await parking.client().call('send', { vm, imageId: 'kept-back' });
  await parking.client().call('destroy', { vm });

  expect(await parking.client().call('status', { vm })).toBeNull();
  expect(existsSync(world.sinkCgroup().path)).toBe(false);
  expect(existsSync(join(parking.agent().stateDir, 'images', vm))).toBe(false);
  expect(existsSync(join(parking.agent().stateDir, 'sinks', `${vm}.json`))).toBe(false);
  const { stdout } = await exec(['ip', '-o', 'link']);
  expect(stdout).not.toContain(world.sinkPort);
}, 60_000);

test('requests in the wrong order are refused with the state', async () => {
  const parking = await startParking(world);
  const vm = world.name;
  await expect(parking.client().call('run', { vm })).rejects.toThrow('prepare it first');
  await parking.leave('early');
  await expect(parking.client().call('run', { vm })).rejects.toThrow('it is prepared; run is for');
  await expect(parking.client().call('checkpoint', { vm, imageId: 'x' })).rejects.toThrow('it is prepared');
}, 60_000);
