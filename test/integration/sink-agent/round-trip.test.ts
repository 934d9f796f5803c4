/** A VM's processes go to a sink, stay there under the filter with their clients, and come back at the first forbidden call. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { SinkAgentEvent, SinkStatus } from '../../../sink-agent/api.ts';
import { NETWORK } from './fixtures/production-network.ts';
import { endChild } from './fixtures/vm-container.ts';
import { waitFor } from './fixtures/wait.ts';
import { SINK_PORT, startWorld, VM, VM_PORT, type World } from './fixtures/world.ts';

let world: World;
let agent: Awaited<ReturnType<World['startAgent']>>;

beforeAll(async () => {
  world = await startWorld();
  agent = await world.startAgent();
}, 600_000);

afterAll(async () => {
  await agent?.client.call('destroy', { vm: VM, force: true }).catch(() => {});
  await agent?.kill();
  await world?.end();
}, 60_000);

test('processes with connections move to a sink, trigger on a forbidden call, and come back with nothing lost', async () => {
  const { vm, network, vmAgent, template } = world;
  const { client } = agent;
  const time = async <T>(what: string, work: Promise<T>): Promise<T> => {
    const started = performance.now();
    const result = await work;
    console.log(what, Math.round(performance.now() - started));
    return result;
  };
  const statuses: SinkStatus[] = [];
  const gone = new AbortController();
  client.events(({ sink }: SinkAgentEvent) => statuses.push(sink), gone.signal).catch(() => {});

  const trees = await world.startTrees();
  const echo = world.echoClient();
  const ssh = world.sshClient();
  echo.say('one\n');
  await echo.hears('1 one');
  ssh.say('where=vm; echo begin-$where\n');
  await ssh.hears('begin-vm');

  await network.unplug(VM_PORT);
  await time('dump in VM', vm.dump('to-sink', trees));
  const prepared = await time(
    'prepare',
    client.call('prepare', { vm: VM, templateId: template.id, network: NETWORK, vmAgent: vmAgent.address }),
  );
  expect(prepared).toMatchObject({ state: 'prepared', port: SINK_PORT });
  await network.adopt(SINK_PORT);
  await time('receive', client.call('receive', { vm: VM, imageId: 'to-sink' }));
  await time('restore', client.call('restore', { vm: VM, imageId: 'to-sink' }));
  await network.plug(SINK_PORT);
  await time('run', client.call('run', { vm: VM }));
  echo.say('two\n');
  await echo.hears('2 two');

  ssh.say('echo "end-$where-$(ls / | wc -l)"\n');
  await waitFor('a trigger', () => statuses.find(({ state }) => state === 'frozen') ?? null);
  console.log(statuses.at(-1));
  await network.unplug(SINK_PORT);
  await time('checkpoint', client.call('checkpoint', { vm: VM, imageId: 'to-vm' }));
  await time('send', client.call('send', { vm: VM, imageId: 'to-vm' }));
  await time('restore in VM', vm.restore('to-vm'));
  await network.plug(VM_PORT);
  await ssh.hears('end-vm-');
  echo.say('write three\n');
  await echo.hears('3 write three');
  await client.call('destroy', { vm: VM });
  gone.abort();
  await Promise.all([endChild(echo.child), endChild(ssh.child)]);
}, 60_000);
