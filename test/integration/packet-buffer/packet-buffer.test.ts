/** The packet buffer under ASan and UBSan, in the path of a VM's bridge, with a real switch on both sides. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { PacketBuffer } from '../../../orchestrator/packet-buffer/packet-buffer.ts';
import { DatapathControl } from '../../../ovs/datapath.ts';
import { KeptConnection } from '../../../ovs/openflow/kept-connection.ts';
import { Redirect } from '../../../ovs/redirect.ts';
import {
  CLIENT_IP,
  type Running,
  run,
  startTwoHosts,
  type TwoHosts,
  VM_IP,
  VM_IP6,
  VM_MAC,
} from '../ovs/two-hosts.ts';

const ROOT = new URL('../../../', import.meta.url).pathname;
const PROGRAM = `${ROOT}build/sanitized/packet-buffer`;
const SEND = `${ROOT}test/integration/ovs/fixtures/udp-send.ts`;
const RECEIVE = `${ROOT}test/integration/ovs/fixtures/udp-receive.ts`;

interface Received {
  count: number;
  distinct: number;
  misordered: number;
  last: number;
}

let hosts: TwoHosts;
let vmBridge: KeptConnection;
let sinkBridge: KeptConnection;
let redirect: Redirect;
let buffer: PacketBuffer;
const undo: (() => Promise<unknown>)[] = [];
let port = 7100;

beforeAll(async () => {
  await exec([`${ROOT}scripts/build-helpers`, '--sanitize']);
  hosts = await startTwoHosts('slo-pb');
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
  buffer = newBuffer();
});

function newBuffer(): PacketBuffer {
  return new PacketBuffer({
    host: hosts.hv.host,
    program: PROGRAM,
    vm: 'vm1',
    mac: VM_MAC,
    tap: 'tap-vm1',
    bridge: 'qbr-vm1',
    uplink: 'qvb-vm1',
    queue: 41,
    runDir: hosts.dir,
    heldTcpPorts: [22],
  });
}

beforeEach(async () => {
  port++;
  await redirect.toVm();
});

afterEach(async () => {
  await buffer.disarm({ force: true });
  for (const step of undo.splice(0).reverse()) await step();
});

afterAll(async () => {
  // The daemons' sanitisers write here.
  const log = await readFile(`${hosts.dir}/packet-buffer-vm1.log`, 'utf8');
  await vmBridge?.close();
  await sinkBridge?.close();
  await hosts?.stop();
  expect(log).not.toMatch(/Sanitizer|runtime error/);
});

async function receiver(place: TwoHosts['vm'], address = VM_IP): Promise<Running> {
  const running = run(place, [process.execPath, RECEIVE, address, `${port}`, marks(place)], undo);
  expect(await running.line()).toBe('ready');
  return running;
}

async function report(receiver: Running): Promise<Received> {
  receiver.signal('SIGUSR1');
  return JSON.parse(await receiver.line());
}

/** Waits until `condition` holds, at most ten seconds; polls without hurry. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`expected within 10 s: ${condition}`);
    await delay(10);
  }
}

/** Where a receiver tells the sender of each datagram. */
const marks = (place: TwoHosts['vm']) => `${hosts.dir}/${place.name}-${port}.sock`;

/** With receivers that tell of each datagram, no more are under way than the switches hold. */
const send = (rate: number, count: number, address = VM_IP, receivers: TwoHosts['vm'][] = []) =>
  run(
    hosts.client,
    [process.execPath, SEND, address, `${port}`, `${rate}`, `${count}`, '200', ...receivers.map(marks)],
    undo,
  );

/** Begins to connect to a TCP port, and leaves it trying. */
const connect = (tcpPort: number, address = VM_IP) =>
  run(hosts.client, ['bash', '-c', `: < /dev/tcp/${address}/${tcpPort}`], undo);

/** A command on the hypervisor's host; its output. */
const onHv = async (...argv: [string, ...string[]]) => (await hosts.hv.host.run(argv)).stdout;
const mangleRules = async () =>
  (await Promise.all(['iptables', 'ip6tables'].map((family) => mangle(family)))).join('\n');
const mangle = (family: string) => onHv(family, '-t', 'mangle', '-S', 'PREROUTING');

test.each([VM_IP, VM_IP6])('held at 4,000 a second, released in order, none lost: %s', async (ip) => {
  const vm = await receiver(hosts.vm, ip);
  const entered = await countEntering(ip.includes(':') ? 'ip6tables' : 'iptables');
  const sender = send(4000, 4000, ip);
  await until(async () => (await report(vm)).count > 200);
  await buffer.arm();
  await until(async () => (await buffer.status()).held > 1500);
  const held = await buffer.status();
  expect(held).toMatchObject({ mode: 'hold', lost: 0 });
  expect(held.bytes).toBeGreaterThan(held.held * 200);
  expect(held.oldestMs).toBeGreaterThan(100);
  expect(held).toMatchObject({
    connections: 0,
    first: { protocol: 'udp', syn: false, destination: ip, port },
  });
  const start = performance.now();
  expect((await buffer.release()).packets).toBeGreaterThanOrEqual(held.held);
  console.log(`released ${held.held} in ${(performance.now() - start).toFixed(1)} ms`);
  expect(await sender.line()).toBe('done');
  await until(async () => (await report(vm)).count === (await entered()));
  const got = await report(vm);
  expect(got).toMatchObject({ distinct: got.count, misordered: 0 });
  expect(got.count).toBeGreaterThan(2000);
  expect(await buffer.status()).toMatchObject({ mode: 'pass', held: 0, lost: 0, oldestMs: 0 });
});

test('what was held during a park is diverted to the sink, in order, and none is lost', async () => {
  const [vm, stack] = [await receiver(hosts.vm), await receiver(hosts.stack)];
  const sender = send(1000, 2000, VM_IP, [hosts.vm, hosts.stack]);
  await until(async () => (await report(vm)).count > 100);
  await buffer.arm();
  await until(async () => (await buffer.status()).held > 60);
  const atVm = (await report(vm)).count;
  await redirect.toSink();
  const { diverted, held } = await buffer.divert();
  expect(diverted).toBeGreaterThan(60);
  expect(held).toEqual({ packets: 0, connections: 0, first: null });
  expect(await sender.line()).toBe('done');
  await until(async () => (await report(stack)).count + atVm === 2000);
  expect((await report(stack)).distinct + atVm).toBe(2000);
  expect((await report(vm)).count).toBe(atVm);
  await until(async () => (await buffer.status()).mode === 'hold');
});

test('a park and a wake under traffic lose nothing and deliver nothing twice', async () => {
  const [vm, stack] = [await receiver(hosts.vm), await receiver(hosts.stack)];
  const sender = send(1000, 4000, VM_IP, [hosts.vm, hosts.stack]);
  await until(async () => (await report(vm)).count > 100);
  await buffer.arm();
  await redirect.toSink();
  await buffer.divert();
  await until(async () => (await report(stack)).count > 300);
  await buffer.hold();
  await redirect.toVm();
  await until(async () => (await buffer.status()).held > 60);
  await buffer.release();
  await buffer.disarm();
  expect(await sender.line()).toBe('done');
  await until(async () => (await report(vm)).count + (await report(stack)).count >= 4000);
  const [atVm, atStack] = [await report(vm), await report(stack)];
  expect(atVm.distinct + atStack.distinct).toBe(4000);
  expect(atVm.count + atStack.count).toBe(4000);
});

test('a held SYN stays when the rest is diverted, its retransmissions are folded, and release delivers it', async () => {
  const vm = run(hosts.vm, [process.execPath, '-e', TCP_SERVER, VM_IP], undo);
  expect(await vm.line()).toBe('listening');
  await buffer.arm();
  connect(22);
  await until(async () => (await buffer.status()).held === 1);
  await redirect.toSink();
  const request = { protocol: 'tcp', syn: true, source: CLIENT_IP, destination: VM_IP, port: 22 };
  expect(await buffer.divert()).toEqual({
    diverted: 0,
    held: { packets: 1, connections: 1, first: { ...request, sourcePort: expect.any(Number) } },
  });
  // The client sends it again after a second.
  await until(async () => (await buffer.status()).folded === 1);
  expect((await buffer.status()).held).toBe(1);
  await redirect.toVm();
  const { packets, connections, oldestMs } = await buffer.release();
  expect({ packets, connections }).toEqual({ packets: 1, connections: 1 });
  expect(oldestMs).toBeGreaterThan(900);
  expect(await vm.line()).toBe('connected');
});

test('the daemon outlives the process that started it, with what it holds', async () => {
  const source = `
    const { PacketBuffer } = await import('${ROOT}orchestrator/packet-buffer/packet-buffer.ts');
    const { localHost } = await import('${ROOT}orchestrator/host/local.ts');
    const buffer = new PacketBuffer({ host: localHost({ netns: '${hosts.hv.netns}' }), program: '${PROGRAM}', vm: 'vm1',
      mac: '${VM_MAC}', tap: 'tap-vm1', bridge: 'qbr-vm1', uplink: 'qvb-vm1', queue: 41, runDir: '${hosts.dir}',
      heldTcpPorts: [22] });
    await buffer.arm();
    process.stdout.write('armed');
    setInterval(() => {}, 1000);`;
  const parent = spawn(process.execPath, ['--input-type=module', '-e', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(parent.stdout, 'data');
  connect(23);
  await until(async () => (await buffer.status()).held === 1);
  parent.kill('SIGKILL');
  await once(parent, 'exit');
  expect((await buffer.status()).held).toBe(1);
  await buffer.arm(); // finds it, and takes nothing from it
  expect((await buffer.status()).held).toBe(1);
});

test('arming and disarming twice is as once, and leaves nothing behind', async () => {
  const before = await mangleRules();
  await buffer.arm();
  const armed = await mangleRules();
  await buffer.arm();
  expect(await mangleRules()).toBe(armed);
  expect(armed.match(/seamless:vm1/g)).toHaveLength(4);
  expect(await bridgePort()).toMatch(/mcast_flood off.* bcast_flood off/);
  await buffer.disarm();
  await buffer.disarm();
  expect(await mangleRules()).toBe(before);
  expect(await bridgePort()).toMatch(/mcast_flood on.* bcast_flood on/);
  await expect(buffer.status()).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
});

test('a VM whose tap has gone can be disarmed', async () => {
  const gone = new PacketBuffer({
    host: hosts.hv.host,
    program: PROGRAM,
    vm: 'vm2',
    mac: '52:54:00:00:00:99',
    tap: 'gone0',
    bridge: 'qbr-vm1',
    uplink: 'qvb-vm1',
    queue: 42,
    runDir: hosts.dir,
    heldTcpPorts: [],
  });
  await onHv('ip', 'link', 'add', 'gone0', 'type', 'veth', 'peer', 'name', 'gone1');
  await onHv('ip', 'link', 'set', 'gone0', 'master', 'qbr-vm1');
  await gone.arm();
  await onHv('ip', 'link', 'del', 'gone0');
  await gone.disarm();
  expect(await mangleRules()).not.toContain('seamless:vm2');
  await expect(gone.status()).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
});

test('while packets are held it does not end, unless forced', async () => {
  await buffer.arm();
  connect(23);
  await until(async () => (await buffer.status()).held === 1);
  await expect(buffer.disarm()).rejects.toMatchObject({ code: 'ILLEGAL_TRANSITION' });
  expect(await mangleRules()).toContain('seamless:vm1');
  expect(await tell('quit')).toEqual({ error: '1 packets are held: release or divert them' });
  await buffer.disarm({ force: true });
  expect(await mangleRules()).not.toContain('seamless:vm1');
});

test('nonsense is refused, and changes nothing', async () => {
  await buffer.arm();
  for (const line of [
    'nonsense',
    'release now',
    '',
    'divert iface=qvb-vm1',
    'divert iface=qvb-vm1 mac=52:54',
    'divert iface=nosuch0 mac=52:54:00:00:00:02',
    'divert iface=qvb-vm1 mac=52:54:00:00:00:02 keep=0',
    'divert iface=qvb-vm1 mac=52:54:00:00:00:02 keep=1,x',
    'divert iface=qvb-vm1 mac=52:54:00:00:00:02 linger=9999999',
    'divert iface=qvb-vm1 mac=52:54:00:00:00:02 other=1',
    `divert ${'x'.repeat(2000)}`,
  ]) {
    expect(await tell(line), line).toMatchObject({ error: expect.any(String) });
  }
  expect(await buffer.status()).toMatchObject({ mode: 'hold', held: 0, lost: 0 });
});

test('a divert that fails keeps what is held, in order', async () => {
  const vm = await receiver(hosts.vm);
  await buffer.arm();
  await send(1000, 50).line();
  await until(async () => (await buffer.status()).held === 50);
  await onHv('ip', 'link', 'add', 'dead0', 'type', 'bridge'); // and never set up
  undo.push(() => onHv('ip', 'link', 'del', 'dead0'));
  expect(await tell(`divert iface=dead0 mac=${VM_MAC}`)).toMatchObject({
    error: expect.stringContaining('Network is down'),
    held: 50,
  });
  await buffer.release();
  await until(async () => (await report(vm)).count === 50);
  expect(await report(vm)).toMatchObject({ distinct: 50, misordered: 0 });
});

test('a program that can’t start is told with its own words', async () => {
  await buffer.arm();
  const second = run(
    hosts.hv,
    ['bash', '-c', `${PROGRAM} --queue 41 --control ${hosts.dir}/x.sock 2>&1`],
    undo,
  );
  expect(await second.line()).toMatch(/can't bind queue 41/);
  const third = run(
    hosts.hv,
    ['bash', '-c', `${PROGRAM} --queue 42 --control ${buffer.socketPath} 2>&1`],
    undo,
  );
  expect(await third.line()).toMatch(/another one listens on/);
  const fourth = run(hosts.hv, ['bash', '-c', `${PROGRAM} --queue 70000 --control x 2>&1`], undo);
  expect(await fourth.line()).toMatch(/expected a queue number from 0 to 65535, got 70000/);
});

test('a released packet is still judged by the filter table, as security groups need it', async () => {
  const vm = await receiver(hosts.vm);
  const drop = ['FORWARD', '-p', 'udp', '--dport', `${port}`, '-j', 'DROP'];
  await onHv('iptables', '-A', ...drop);
  undo.push(() => onHv('iptables', '-D', ...drop));
  await buffer.arm();
  await send(1000, 20).line();
  await until(async () => (await buffer.status()).held === 20);
  await buffer.release();
  const counted = () => onHv('iptables', '-vnxL', 'FORWARD');
  await until(async () => / 20 +\d+ DROP/.test(await counted()));
  expect((await report(vm)).count).toBe(0);
});

/**
 * Counts the test's datagrams at the VM's bridge: on a busy machine some don't get that far, because a userspace
 * switch reads raw sockets that overrun.
 */
async function countEntering(family: 'iptables' | 'ip6tables'): Promise<() => Promise<number>> {
  // Before the hold, whose verdict ends the table it is in.
  const rule = ['PREROUTING', '-t', 'raw', '-p', 'udp', '--dport', `${port}`] as const;
  await onHv(family, '-A', ...rule);
  undo.push(() => onHv(family, '-D', ...rule));
  return async () => {
    const listed = await onHv(family, '-t', 'raw', '-vnxL', 'PREROUTING');
    return Number(listed.match(new RegExp(`(\\d+) +\\d+ .*dpt:${port}`))?.[1]);
  };
}

const TCP_SERVER = `
  const server = require('node:net').createServer(() => console.log('connected'));
  server.listen(22, process.argv[1], () => console.log('listening'));`;

async function bridgePort(): Promise<string> {
  return (await onHv('bridge', '-d', 'link', 'show', 'dev', 'tap-vm1')).replaceAll('\n', ' ');
}

/** One raw line to the daemon. */
async function tell(line: string): Promise<unknown> {
  const stream = await hosts.hv.host.connect(buffer.socketPath);
  try {
    stream.write(`${line}\n`);
    const [chunk] = await once(stream, 'data', { signal: AbortSignal.timeout(5000) });
    return JSON.parse(String(chunk));
  } finally {
    stream.destroy();
  }
}
