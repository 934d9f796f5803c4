/** Sinks in Docker: the same way there and back, seen by Docker's tools; and whatever befalls Docker, no process runs unwatched and none is lost unsaid. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startParking } from './fixtures/parking.ts';
import { waitFor } from './fixtures/wait.ts';
import { startWorld, type World } from './fixtures/world.ts';

let world: World;

beforeAll(async () => {
  world = await startWorld(8, 'docker');
}, 1_000_000);

afterAll(() => world?.end(), 60_000);

const docker = () => {
  if (!world.docker) throw new Error('expected a Docker daemon');
  return world.docker;
};
const containerName = () => `seamless-sls-${world.name}`;

test('a parked VM is a container that docker ps, stats and logs tell about, and comes back from it', async () => {
  const parking = await startParking(world);
  await parking.park('there');
  parking.echo.say('two\n');
  await parking.echo.hears('2 two');

  const listed = await docker().cli(
    'ps',
    '--format',
    '{{.Names}} {{.Label "seamless.vm"}} {{.Label "seamless.template"}}',
  );
  expect(listed).toBe(`${containerName()} ${world.name} ${world.template.id}`);
  const stats = await docker().cli('stats', '--no-stream', '--format', '{{.PIDs}} {{.MemUsage}}');
  // Its limit is of what may be parked; what is parked is never ended for it.
  expect(await docker().cli('inspect', '--format', '{{.HostConfig.Memory}}', containerName())).toBe(
    `${2 ** 30}`,
  );
  expect(stats).toMatch(/^\d+ [\d.]+MiB \/ (?!1GiB)[\d.]+GiB$/);
  expect(Number.parseInt(stats, 10)).toBeGreaterThan(2); // PID 1, and the VM's processes beside it
  // Its layer holds what the processes had open, nothing of the template.
  const own = await docker().cli('ps', '--size', '--format', '{{.Size}}');
  expect(own).toMatch(/^[\d.]+k?B \(virtual \d+MB\)$/);

  parking.ssh.say('echo $where > /tmp/proof; echo done-$where\n');
  const { trigger } = await parking.becomes('frozen');
  expect(trigger).toMatchObject({ program: 'bash' });
  await waitFor('the trigger in the container’s log', async () =>
    (await docker().cli('logs', containerName())).includes(`frozen (image there): bash[${trigger?.pid}]: `)
      ? true
      : null,
  );
  await parking.unpark('back');
  await parking.ssh.hears('done-variable');
  await parking.expectClientsAlive(3);
  expect(await docker().cli('ps', '--all', '--quiet')).toBe('');
}, 60_000);

test('while Docker is away a sink goes on under its filter, wakes and ends; only a new one is refused', async () => {
  const parking = await startParking(world);
  await parking.park('served');
  await docker().kill();
  parking.echo.say('two\n');
  await parking.echo.hears('2 two');
  await docker().start();
  parking.echo.say('three\n');
  await parking.echo.hears('3 three');
  expect((await parking.becomes('running')).trigger).toBeNull();

  await docker().kill();
  parking.echo.say('write four\n');
  expect((await parking.becomes('frozen')).trigger).toMatchObject({ program: 'perl', syscall: 'write' });
  await parking.unpark('served-back');
  await parking.echo.hears('4 write four');
  await expect(parking.prepare()).rejects.toMatchObject({
    code: 'RUNTIME_UNREACHABLE',
    message: expect.stringContaining(docker().socket),
  });
  expect(await parking.client().call('status', { vm: world.name })).toBeNull();

  await parking.expectClientsAlive(5);

  await docker().start(); // it still knows the old container
  expect(await parking.prepare()).toMatchObject({ state: 'prepared' });
  expect((await docker().cli('ps', '--all', '--quiet')).split('\n')).toHaveLength(1);
}, 60_000);

test('the agent and Docker end together: the sink is frozen, and a new agent goes on with it without Docker', async () => {
  const parking = await startParking(world);
  await parking.park('both');
  await docker().kill();
  await parking.killAgent();
  parking.echo.say('two\n');
  await parking.startAgent();
  await parking.becomes('running');
  await parking.echo.hears('2 two');
  await docker().start();
}, 60_000);

test('a container that is removed behind our back is told as lost, with all that is left said, and makes room for another', async () => {
  const parking = await startParking(world);
  await parking.park('removed');
  await docker().cli('rm', '--force', containerName());
  const status = await parking.becomes('lost');
  expect(status).toMatchObject({
    imageId: 'removed',
    trigger: null,
    reason: expect.stringContaining('its container ended'),
  });
  expect(await parking.client().call('freeze', { vm: world.name })).toMatchObject({ state: 'lost' });
  await expect(parking.client().call('run', { vm: world.name })).rejects.toThrow('it is lost');
  await parking.killAgent();
  await parking.startAgent();
  expect(await parking.client().call('status', { vm: world.name })).toMatchObject({ state: 'lost' });
  expect(await parking.prepare()).toMatchObject({ state: 'prepared', imageId: null });
}, 60_000);

test('an image that says it is of another template makes no sink', async () => {
  const parking = await startParking(world);
  const tag = `seamless-template:${world.template.id.slice(0, 12)}`;
  await parking.prepare();
  await parking.client().call('destroy', { vm: world.name });
  await docker().cli('tag', tag, 'kept');
  const label = `LABEL seamless.template=${'f'.repeat(64)}`;
  await docker().cli('import', '--change', label, '/dev/null', tag);
  await expect(parking.prepare()).rejects.toMatchObject({
    code: 'TEMPLATE_MISMATCH',
    message: expect.stringContaining('f'.repeat(64)),
  });
  expect(await docker().cli('ps', '--all', '--quiet')).toBe('');
  await docker().cli('tag', 'kept', tag);
  expect(await parking.prepare()).toMatchObject({ state: 'prepared' });
}, 60_000);

test('processes that don’t fit into the limits of a container are refused as a whole, before they run', async () => {
  const { agentOptions } = world;
  const small = {
    ...agentOptions,
    runtime: { type: 'docker', socket: docker().socket, pids: 6 },
  } as const;
  const parking = await startParking({ ...world, agentOptions: small });
  await parking.leave('large');
  await parking.client().call('receive', { vm: world.name, imageId: 'large' });
  await expect(parking.client().call('restore', { vm: world.name, imageId: 'large' })).rejects.toMatchObject({
    code: 'RESTORE_FAILED',
  });
  expect(await parking.client().call('status', { vm: world.name })).toMatchObject({ state: 'prepared' });
  expect(await docker().cli('ps', '--all', '--quiet')).toBe('');
}, 60_000);
