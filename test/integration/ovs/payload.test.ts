/** What the counters of a real switch make of real traffic. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { DatapathControl } from '../../../ovs/datapath.ts';
import { KeptConnection } from '../../../ovs/openflow/kept-connection.ts';
import { PayloadMeter } from '../../../ovs/payload-meter.ts';
import { Redirect } from '../../../ovs/redirect.ts';
import {
  CLIENT_IP,
  CLIENT_IP6,
  CLIENT_MAC,
  type Place,
  type Running,
  run,
  startTwoHosts,
  type TwoHosts,
  VM_IP,
  VM_IP6,
  VM_MAC,
} from './two-hosts.ts';

const TALK = join(import.meta.dirname, 'fixtures/talk.ts');
const PORT = '7100';
const CHECKER = '10.7.0.9';
/** The option of TCP that each packet has: timestamps. */
const OPTIONS = 12;
const LINE_AND_ECHO = 2 * ('hello\n'.length + OPTIONS);

let hosts: TwoHosts;
let bridge: KeptConnection;
let datapath: DatapathControl;
let meter: PayloadMeter;
let server: Running;
const undo: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  hosts = await startTwoHosts('slo-pl');
  bridge = new KeptConnection({ name: 'br-int of hv', connect: hosts.hv.connect }).start();
  datapath = new DatapathControl(hosts.hv.connectControl, { name: 'hv' });
  meter = new PayloadMeter({ vmName: 'vm1', mac: VM_MAC, bridge });
  // Unmanaged as yet: the sink's stack would answer for the VM's address, too.
  await sinkIs('down');
  await hosts.client.host.run(['ip', 'addr', 'add', `${CHECKER}/24`, 'dev', 'eth0']);
  server = talk(hosts.vm, 'serve', PORT);
  expect(await server.line()).toBe('ready');
  expect(await meter.read([CHECKER])).toBeNull();
});

afterAll(async () => {
  for (const step of undo.splice(0).reverse()) await step();
  datapath?.close();
  await bridge?.close();
  await hosts?.stop();
});

async function sinkIs(state: 'up' | 'down'): Promise<void> {
  await hosts.stack.host.run(['ip', 'link', 'set', 'eth0', state]);
}

function talk(place: Place, ...args: string[]): Running {
  return run(place, [process.execPath, TALK, ...args], undo);
}

async function told(place: Place, ...args: string[]): Promise<void> {
  expect(await talk(place, ...args).line()).toBe('done');
}

/** What the datapath has counted and not told yet is told when its cache is purged. */
async function payload(of = meter): Promise<number> {
  await datapath.flushAfter(async () => {});
  return (await of.read([CHECKER])) as number;
}

async function countedOf(traffic: () => Promise<unknown>): Promise<number> {
  const before = await payload();
  await traffic();
  return (await payload()) - before;
}

async function keepAlives({ host }: Place): Promise<number> {
  const { stdout } = await host.run(['cat', '/proc/net/netstat']);
  const [names = '', values = ''] = stdout.split('\n').filter((line) => line.startsWith('TcpExt:'));
  return Number(values.split(' ')[names.split(' ').indexOf('TCPKeepAlive')]);
}

test('pings and ARP add nothing', async () => {
  const added = await countedOf(async () => {
    const { host } = hosts.client;
    await host.run(['ip', 'neigh', 'del', VM_IP, 'dev', 'eth0']);
    await host.run(['ping', '-c', '5', '-i', '0.01', '-s', '1200', VM_IP]);
    await host.run(['ping', '-c', '5', '-i', '0.01', VM_IP6]);
    await hosts.vm.host.run(['ping', '-c', '5', '-i', '0.01', CLIENT_IP]);
  });
  expect(added).toBe(0);
});

test('a scan of ports adds nothing, be they closed or open', async () => {
  const added = await countedOf(async () => {
    await told(hosts.client, 'scan', VM_IP, '1', '300');
    await told(hosts.client, 'scan', VM_IP6, '1', '50');
    await told(hosts.client, 'touch', VM_IP, PORT);
  });
  expect(added).toBe(0);
});

test('an open connection adds nothing by its keep-alives', async () => {
  const added = await countedOf(async () => {
    const before = await keepAlives(hosts.client);
    const held = talk(hosts.client, 'hold', VM_IP, PORT);
    expect(await held.line()).toBe('open');
    await expect.poll(() => keepAlives(hosts.client), { timeout: 10_000 }).toBeGreaterThan(before + 1);
    await held.stop();
  });
  expect(added).toBe(0);
});

test('health checks add nothing, whatever they say', async () => {
  const added = await countedOf(async () => {
    await told(hosts.client, 'line', VM_IP, PORT, CHECKER);
    await told(hosts.client, 'datagram', VM_IP, PORT, '100', CHECKER);
    expect(await server.line()).toBe('datagram 100');
  });
  expect(added).toBe(0);
});

test.each([
  ['IPv4', VM_IP],
  ['IPv6', VM_IP6],
])('a written line is counted with its answer, by %s', async (_version, address) => {
  expect(await countedOf(() => told(hosts.client, 'line', address, PORT))).toBe(LINE_AND_ECHO);
});

test.each([
  ['IPv4', VM_IP, CLIENT_IP],
  ['IPv6', VM_IP6, CLIENT_IP6],
])('a datagram is counted to the byte, to the VM and from it, by %s', async (_version, to, from) => {
  const toVm = await countedOf(async () => {
    await told(hosts.client, 'datagram', to, PORT, '100');
    expect(await server.line()).toBe('datagram 100');
  });
  expect(toVm).toBe(100);
  expect(await countedOf(() => told(hosts.vm, 'datagram', from, PORT, '333'))).toBe(333);
});

test('what one VM sends to another is counted for both', async () => {
  const other = new PayloadMeter({ vmName: 'vm2', mac: CLIENT_MAC, bridge });
  onTestFinished(() => other.remove());
  expect(await other.read([CHECKER])).toBeNull();
  const before = [await payload(), await payload(other)];
  await told(hosts.client, 'datagram', VM_IP, PORT, '250');
  expect(await server.line()).toBe('datagram 250');
  expect([await payload(), await payload(other)]).toEqual(before.map((bytes) => bytes + 250));
});

test('other health checks hold from the next reading on, and take nothing back of what was counted', async () => {
  const before = await payload();
  expect(await meter.read([])).toBe(before);
  await told(hosts.client, 'datagram', VM_IP, PORT, '70', CHECKER);
  expect(await server.line()).toBe('datagram 70');
  await datapath.flushAfter(async () => {});
  expect(await meter.read([])).toBe(before + 70);
  expect(await meter.read([CHECKER])).toBe(before + 70);
});

test('counters that were made anew behind its back are not taken for the old ones', async () => {
  expect(await payload()).toBeGreaterThan(0);
  const restored = new PayloadMeter({ vmName: 'vm1', mac: VM_MAC, bridge });
  await restored.remove();
  expect(await restored.read([CHECKER])).toBeNull();
  expect(await meter.read([CHECKER])).toBeNull();
  expect(await meter.read([CHECKER])).toBe(0);
});

test('a redirection leads where it led without the counters, and finds its own flows alone', async () => {
  const sinkBridge = new KeptConnection({ name: 'br-int of sink', connect: hosts.sink.connect }).start();
  onTestFinished(() => sinkBridge.close());
  const redirect = new Redirect({
    ...{ vmName: 'vm1', mac: VM_MAC, heldTcpPorts: [22], vmBridge: bridge, sinkBridge },
    ...{ vmDatapath: datapath },
    ports: { vm: 'qvo-vm1', vmTunnel: 'vxlan0', sinkTunnel: 'vxlan0', sink: 'sink-vm1' },
  });
  onTestFinished(() => redirect.remove());
  await redirect.toVm();
  await sinkIs('up');
  onTestFinished(() => sinkIs('down'));
  const inSink = talk(hosts.stack, 'serve', PORT);
  expect(await inSink.line()).toBe('ready');
  await redirect.toSink();
  expect(await redirect.stateOnVmBridge()).toBe('parked');
  await told(hosts.client, 'datagram', VM_IP, PORT, '40');
  expect(await inSink.line()).toBe('datagram 40');
  await told(hosts.client, 'line', VM_IP, PORT);
  await redirect.toVm();
  await told(hosts.client, 'datagram', VM_IP, PORT, '41');
  expect(await server.line()).toBe('datagram 41');
  expect(await meter.read([CHECKER])).not.toBeNull();
});

test('after a restart of the switch nothing is known once, and then it counts again', async () => {
  await hosts.hv.restartSwitch();
  expect(await meter.read([CHECKER])).toBeNull();
  expect(
    await countedOf(async () => {
      await told(hosts.client, 'datagram', VM_IP, PORT, '100');
      expect(await server.line()).toBe('datagram 100');
    }),
  ).toBe(100);
});
