/** The redirection of one VM over two real switches, under traffic. */
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { DatapathControl } from '../../../ovs/datapath.ts';
import { KeptConnection } from '../../../ovs/openflow/kept-connection.ts';
import { Redirect, type SynEvent } from '../../../ovs/redirect.ts';
import {
  CLIENT_IP,
  CLIENT_IP6,
  type Running,
  run,
  startTwoHosts,
  type TwoHosts,
  VM_IP,
  VM_IP6,
  VM_MAC,
} from './two-hosts.ts';

const SEND = new URL('fixtures/udp-send.ts', import.meta.url).pathname;
const RECEIVE = new URL('fixtures/udp-receive.ts', import.meta.url).pathname;

interface Received {
  count: number;
  distinct: number;
  last: number;
  lastAtMs: number;
}

let hosts: TwoHosts;
let vmBridge: KeptConnection;
let sinkBridge: KeptConnection;
let redirect: Redirect;
const undo: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  hosts = await startTwoHosts('slo-rd');
  vmBridge = new KeptConnection({ name: 'br-int of hv', connect: hosts.hv.connect }).start();
  sinkBridge = new KeptConnection({ name: 'br-int of sink', connect: hosts.sink.connect }).start();
  redirect = new Redirect({
    vmName: 'vm1',
    mac: VM_MAC,
    heldTcpPorts: [22],
    vmBridge,
    sinkBridge,
    vmDatapath: new DatapathControl(hosts.hv.connectControl, { name: 'hv' }),
    sinkDatapath: new DatapathControl(hosts.sink.connectControl, { name: 'sink' }),
    ports: { vm: 'qvo-vm1', vmTunnel: 'vxlan0', sinkTunnel: 'vxlan0', sink: 'sink-vm1' },
  });
});

afterAll(async () => {
  for (const step of undo.splice(0).reverse()) await step();
  await vmBridge?.close();
  await sinkBridge?.close();
  await hosts?.stop();
});

beforeEach(() => redirect.toVm());

async function receiver(place: TwoHosts['vm'], port: number): Promise<Running> {
  const running = run(place, [process.execPath, RECEIVE, VM_IP, `${port}`, marks(place, port)], undo);
  expect(await running.line()).toBe('ready');
  return running;
}

async function report(receiver: Running): Promise<Received> {
  receiver.signal('SIGUSR1');
  return JSON.parse(await receiver.line());
}

/** IPv4 packets that have entered the host's stack. */
async function packetsReceived({ host }: TwoHosts['vm']): Promise<number> {
  const { stdout } = await host.run(['cat', '/proc/net/snmp']);
  const [names = '', values = ''] = stdout.split('\n').filter((line) => line.startsWith('Ip:'));
  return Number(values.split(' ')[names.split(' ').indexOf('InReceives')]);
}

/** Where a receiver tells the sender of each datagram. */
const marks = (place: TwoHosts['vm'], port: number) => `${hosts.dir}/${place.name}-${port}.sock`;

const send = (port: number, rate: number, count: number) => {
  const receivers = [hosts.vm, hosts.stack].map((place) => marks(place, port));
  return run(
    hosts.client,
    [process.execPath, SEND, VM_IP, `${port}`, `${rate}`, `${count}`, '64', ...receivers],
    undo,
  );
};

test('24 flips at up to 2,000 datagrams a second lose none and deliver none twice', async () => {
  const [vm, stack] = [await receiver(hosts.vm, 7001), await receiver(hosts.stack, 7001)];
  const sender = send(7001, 2000, 6000);
  const done = sender.line();
  const timings: number[] = [];
  const flip = async () => {
    for (const to of ['toSink', 'toVm'] as const) {
      const before = await report(to === 'toSink' ? vm : stack);
      timings.push((await redirect[to]()).totalMs);
      // Some traffic on this side before the next flip.
      const receiver = to === 'toSink' ? stack : vm;
      while ((await report(receiver)).last <= before.last + 100);
    }
  };
  for (let i = 0; i < 12; i++) await flip();
  expect(await done).toBe('done');
  let [atVm, atStack] = [await report(vm), await report(stack)];
  const deadline = performance.now() + 2000;
  while (atVm.count + atStack.count < 6000 && performance.now() < deadline) {
    [atVm, atStack] = [await report(vm), await report(stack)];
  }
  expect(atVm.distinct + atStack.distinct).toBe(6000);
  expect(atVm.count + atStack.count).toBe(6000);
  expect(Math.min(atVm.count, atStack.count)).toBeGreaterThan(24);
  timings.sort((a, b) => a - b);
  console.log(
    `flip of both bridges: median ${timings[12]?.toFixed(2)} ms, most ${timings[23]?.toFixed(2)} ms`,
  );
});

test('once toVm resolves, not one more packet enters the sink', async () => {
  const stack = await receiver(hosts.stack, 7002);
  const vm = await receiver(hosts.vm, 7002);
  const sender = send(7002, 2000, 5000);
  const done = sender.line();
  for (let i = 0; i < 8; i++) {
    const before = await report(stack);
    await redirect.toSink();
    while ((await report(stack)).count < before.count + 50);
    await redirect.toVm();
    const entered = await packetsReceived(hosts.stack);
    const { count } = await report(vm);
    while ((await report(vm)).count < count + 50);
    expect(await packetsReceived(hosts.stack)).toBe(entered);
  }
  await done;
});

test('a connection request to a held port reaches the VM’s port and not the sink, and is told with its addresses', async () => {
  await redirect.toSink();
  const events: SynEvent[] = [];
  let seen: () => void = () => {};
  onTestFinished(
    redirect.onSyn((event) => {
      events.push(event);
      seen();
    }),
  );
  for (const [address, source] of [
    [VM_IP, CLIENT_IP],
    [VM_IP6, CLIENT_IP6],
  ]) {
    const told = new Promise<void>((resolve) => {
      seen = resolve;
    });
    // Nothing listens at the VM: its refusal is dropped, since the VM is parked, and the connect hangs.
    const connect = run(hosts.client, ['bash', '-c', `: < /dev/tcp/${address}/22`], undo);
    await told;
    await connect.stop();
    expect(events.at(-1)).toMatchObject({
      vmName: 'vm1',
      mac: VM_MAC,
      source,
      destination: address,
      port: 22,
    });
  }
});

test('a connection request to another port is the sink’s', async () => {
  await redirect.toSink();
  // Nothing listens there either: the sink's stack refuses, at once.
  const connect = hosts.client.host.run(['bash', '-c', `: < /dev/tcp/${VM_IP}/23`], { timeoutMs: 3000 });
  await expect(connect).rejects.toThrow(/refused/);
});

test('repeating an operation changes nothing, and the state can be read back', async () => {
  for (const [operation, state] of [
    ['toSink', 'parked'],
    ['toVm', 'awake'],
  ] as const) {
    await redirect[operation]();
    const views = async () => [
      await hosts.hv.ofctl('--no-stats', 'dump-flows', 'br-int'),
      await hosts.sink.ofctl('--no-stats', 'dump-flows', 'br-int'),
    ];
    const once = await views();
    await redirect[operation]();
    expect(await views()).toEqual(once);
    expect(await redirect.stateOnVmBridge()).toBe(state);
  }
});

test('remove leaves only what was there before us', async () => {
  await redirect.toSink();
  await redirect.remove();
  await redirect.remove();
  for (const host of [hosts.hv, hosts.sink]) {
    const view = await host.ofctl('--no-stats', 'dump-flows', 'br-int');
    expect(view.split('\n').filter((line) => line.includes('actions='))).toEqual([
      ' priority=0 actions=NORMAL',
    ]);
  }
  expect(await redirect.stateOnVmBridge()).toBeUndefined();
});

test('without the sink’s port, awake is still ensured and parked is refused before anything changes', async () => {
  const half = new Redirect({
    vmName: 'vm2',
    mac: '52:54:00:00:00:99',
    heldTcpPorts: [],
    vmBridge,
    sinkBridge,
    ports: { vm: 'qvo-vm1', vmTunnel: 'vxlan0', sinkTunnel: 'vxlan0', sink: 'nosuch0' },
  });
  onTestFinished(() => half.remove());
  await half.toVm();
  await expect(half.toSink()).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
  expect(await half.stateOnVmBridge()).toBe('awake');
});

test('after ovs-vswitchd restarts the flows are gone, and the same operation brings them back', async () => {
  await redirect.toSink();
  await hosts.hv.restartSwitch();
  await vmBridge.connection();
  expect(await redirect.stateOnVmBridge()).toBeUndefined();
  await redirect.toSink();
  expect(await redirect.stateOnVmBridge()).toBe('parked');
});
