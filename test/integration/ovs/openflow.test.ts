/** The OpenFlow client against a real Open vSwitch, and against what `ovs-ofctl` says of it. */
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { commitBundle } from '../../../ovs/openflow/bundle.ts';
import { type OpenFlowConnection, openOpenFlow } from '../../../ovs/openflow/connection.ts';
import type { FlowSpec } from '../../../ovs/openflow/flow-mod.ts';
import { encodeFlowChange } from '../../../ovs/openflow/flow-mod.ts';
import { KeptConnection } from '../../../ovs/openflow/kept-connection.ts';
import { portNumbers, readFlows, readPortCounters, readPorts } from '../../../ovs/openflow/multipart.ts';
import { encodePacketOut, type PacketIn } from '../../../ovs/openflow/packet.ts';
import { CLIENT_IP, CLIENT_MAC, run, startTwoHosts, type TwoHosts, VM_IP, VM_MAC } from './two-hosts.ts';

let hosts: TwoHosts;
let bridge: OpenFlowConnection;
let packetInSeen: (packet: PacketIn) => void = () => {};

beforeAll(async () => {
  hosts = await startTwoHosts('slo-of');
  bridge = await openOpenFlow(hosts.hv.connect, {
    name: 'br-int of hv',
    onPacketIn: (packet) => packetInSeen(packet),
  });
});

afterAll(async () => {
  bridge?.close();
  await hosts?.stop();
});

const COOKIE = 0x77n << 32n;
const wipe = () => commitBundle(bridge, [{ type: 'delete', cookie: COOKIE, cookieMask: 0xffffffffn << 32n }]);
const RECEIVE = new URL('fixtures/udp-receive.ts', import.meta.url).pathname;
const syn = { value: 0x02, mask: 0x12 };

const flow = (priority: number, match: FlowSpec['match'], actions: FlowSpec['actions']): FlowSpec => ({
  cookie: COOKIE | BigInt(priority),
  priority,
  match,
  actions,
});

const VIEWS: { flow: FlowSpec; ofctl: string }[] = [
  {
    flow: flow(1, { ethDst: '52:54:00:00:00:02' }, [{ type: 'normal' }]),
    ofctl: 'priority=1,dl_dst=52:54:00:00:00:02 actions=NORMAL',
  },
  { flow: flow(2, { inPort: 1 }, []), ofctl: 'priority=2,in_port=vxlan0 actions=drop' },
  {
    flow: flow(3, { ethType: 0x0800, ipProto: 6, tcpDst: 22, tcpFlags: syn }, [
      { type: 'output', port: 2 },
      { type: 'controller', maxBytes: 128 },
    ]),
    ofctl: 'priority=3,tcp,tp_dst=22,tcp_flags=+syn-ack actions=output:client0,CONTROLLER:128',
  },
  {
    flow: flow(4, { ethType: 0x86dd, ipv6Dst: 'fd07::2', ipProto: 6, tcpDst: 22, tcpFlags: syn }, []),
    ofctl: 'priority=4,tcp6,ipv6_dst=fd07::2,tp_dst=22,tcp_flags=+syn-ack actions=drop',
  },
  {
    flow: flow(5, { ethType: 0x0806, arpOp: 1, arpTargetIp: '10.7.0.2' }, []),
    ofctl: 'priority=5,arp,arp_tpa=10.7.0.2,arp_op=1 actions=drop',
  },
  {
    flow: flow(6, { ethType: 0x0800, ipv4Src: '10.7.0.1', ipProto: 17, udpDst: 53 }, [
      { type: 'controller', maxBytes: 65535 },
    ]),
    ofctl: 'priority=6,udp,nw_src=10.7.0.1,tp_dst=53 actions=CONTROLLER:65535',
  },
];

test('flows written by us read the same to ovs-ofctl and to us', async () => {
  onTestFinished(wipe);
  await commitBundle(
    bridge,
    VIEWS.map(({ flow }) => ({ type: 'add', flow })),
  );
  const view = await hosts.hv.ofctl('--names', '--no-stats', 'dump-flows', 'br-int');
  for (const { flow, ofctl } of VIEWS) {
    expect(view).toContain(`cookie=0x${flow.cookie.toString(16)}, ${ofctl}`);
  }
  const read = await readFlows(bridge, { cookie: COOKIE, cookieMask: 0xffffffffn << 32n });
  const sorted = read.sort((a, b) => a.priority - b.priority);
  expect(
    sorted.map(({ cookie, priority, match, actions }) => ({ cookie, priority, match, actions })),
  ).toEqual(VIEWS.map(({ flow }) => flow));
});

test('a flow of ovs-ofctl reads right to us', async () => {
  onTestFinished(wipe);
  const match = 'tcp,dl_dst=52:54:00:00:00:02,tcp_dst=80,tcp_flags=+syn-ack';
  await hosts.hv.ofctl(
    'add-flow',
    'br-int',
    `cookie=0x7700000009,priority=9,${match},actions=controller(max_len=64)`,
  );
  const [read] = await readFlows(bridge, { cookie: COOKIE | 9n, cookieMask: 0xffffffffffffffffn });
  expect(read).toMatchObject({
    priority: 9,
    match: { ethDst: '52:54:00:00:00:02', ethType: 0x0800, ipProto: 6, tcpDst: 80, tcpFlags: syn },
    actions: [{ type: 'controller', maxBytes: 64 }],
  });
});

test('ports have the numbers that ovs-vsctl gives', async () => {
  const names = ['client0', 'vxlan0', 'qvo-vm1'];
  const numbers = await portNumbers(bridge, names);
  for (const name of names) {
    expect(String(numbers[name])).toBe((await hosts.hv.vsctl('get', 'interface', name, 'ofport')).trim());
  }
  expect((await readPorts(bridge)).map((port) => port.name)).toContain('br-int');
  await expect(portNumbers(bridge, ['nosuch0'])).rejects.toThrow('expected a port nosuch0 on br-int of hv');
});

test('what has come in by a port is counted as ovs-ofctl counts it', async () => {
  const { client0 } = await portNumbers(bridge, ['client0']);
  const seen = async () => {
    const [, packets, bytes] =
      /rx pkts=(\d+), bytes=(\d+)/.exec(await hosts.hv.ofctl('dump-ports', 'br-int', 'client0')) ?? [];
    return { packets: Number(packets), bytes: Number(bytes) };
  };
  const before = await seen();
  const ours = (await readPortCounters(bridge)).find(({ number }) => number === client0);
  const after = await seen();
  expect(before.packets).toBeGreaterThan(0);
  for (const key of ['packets', 'bytes'] as const) {
    expect(ours?.[key]).toBeGreaterThanOrEqual(before[key]);
    expect(ours?.[key]).toBeLessThanOrEqual(after[key]);
  }
});

test('a bundle with one bad flow changes nothing, and the error holds what was sent', async () => {
  onTestFinished(wipe);
  const before = await hosts.hv.ofctl('--no-stats', 'dump-flows', 'br-int');
  const good = flow(1, { ethDst: '52:54:00:00:00:02' }, [{ type: 'normal' }]);
  const bad = flow(2, { tcpDst: 22 }, []); // without its prerequisites
  const refused = commitBundle(bridge, [
    { type: 'add', flow: good },
    { type: 'add', flow: bad },
  ]);
  await expect(refused).rejects.toMatchObject({
    code: 'HOST_UNREACHABLE',
    message: expect.stringContaining('bad match'),
    details: { sent: expect.stringMatching(/^0522/) },
  });
  expect(await hosts.hv.ofctl('--no-stats', 'dump-flows', 'br-int')).toBe(before);
});

test('a bundle whose commit fails changes nothing either, and says why', async () => {
  onTestFinished(wipe);
  const before = await hosts.hv.ofctl('--no-stats', 'dump-flows', 'br-int');
  const good = flow(1, { ethDst: '52:54:00:00:00:02' }, [{ type: 'normal' }]);
  // A port number in the reserved range passes the decoder of no action.
  const bad = flow(2, {}, [{ type: 'output', port: 0xffffff05 }]);
  await expect(
    commitBundle(bridge, [
      { type: 'add', flow: good },
      { type: 'add', flow: bad },
    ]),
  ).rejects.toThrow(/refused/);
  expect(await hosts.hv.ofctl('--no-stats', 'dump-flows', 'br-int')).toBe(before);
});

test('a message that the switch refuses fails its own call only', async () => {
  const bad = encodeFlowChange({ type: 'add', flow: flow(2, { tcpDst: 22 }, []) });
  const results = await Promise.allSettled([bridge.send(bad), bridge.barrier(), bridge.echo()]);
  expect(results.map((result) => result.status)).toEqual(['rejected', 'fulfilled', 'fulfilled']);
});

test('a packet that matches a controller flow comes to us', async () => {
  onTestFinished(wipe);
  const trap = flow(50, { ethType: 0x0800, ipProto: 17, udpDst: 9 }, [{ type: 'controller', maxBytes: 128 }]);
  await commitBundle(bridge, [{ type: 'add', flow: trap }]);
  const seen = new Promise<PacketIn>((resolve) => {
    packetInSeen = resolve;
  });
  await hosts.client.host.run(['bash', '-c', `echo hello > /dev/udp/${VM_IP}/9`]);
  const packet = await seen;
  const { client0 } = await portNumbers(bridge, ['client0']);
  expect(packet).toMatchObject({ cookie: trap.cookie, reason: 1, inPort: client0, totalBytes: 14 + 28 + 6 });
  expect(packet.data.subarray(0, 6).toString('hex')).toBe(VM_MAC.replaceAll(':', ''));
});

test('a packet-out reaches the host at the port', async () => {
  const undo: (() => Promise<unknown>)[] = [];
  onTestFinished(async () => void (await undo[0]?.()));
  const receiver = run(hosts.client, [process.execPath, RECEIVE, CLIENT_IP, '7001'], undo);
  expect(await receiver.line()).toBe('ready');
  const ip = `4500002000010000401166bc0a0700020a070001`;
  const udp = '13881b59000c0000'; // to port 7001, without a checksum
  const macs = `${CLIENT_MAC}${VM_MAC}`.replaceAll(':', '');
  const frame = Buffer.from(`${macs}0800${ip}${udp}00000005`, 'hex');
  const { client0: port = 0 } = await portNumbers(bridge, ['client0']);
  await bridge.send(encodePacketOut({ data: frame, actions: [{ type: 'output', port }] }));
  let last = -1;
  for (const deadline = performance.now() + 5000; last < 0 && performance.now() < deadline; ) {
    receiver.signal('SIGUSR1');
    last = JSON.parse(await receiver.line()).last;
  }
  expect(last).toBe(5);
});

test('a peer that is no switch is refused within the deadline', async () => {
  const path = join(hosts.dir, 'mute.sock');
  const mute = createServer((socket) => socket.on('error', () => {})).listen(path);
  onTestFinished(() => void mute.close());
  const open = openOpenFlow((signal) => hosts.hv.host.connect(path, signal), {
    name: 'mute',
    timeoutMs: 100,
  });
  await expect(open).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
});

test('a kept connection comes back after ovs-vswitchd restarts, and says so', async () => {
  const seen: string[] = [];
  const kept = new KeptConnection({
    name: 'br-int of sink',
    connect: hosts.sink.connect,
    onUp: () => seen.push('up'),
    onDown: (reason) => seen.push(reason.code),
  }).start();
  onTestFinished(() => kept.close());
  const first = await kept.connection();
  const pending = first.exchange([], { type: 99, body: Buffer.alloc(0) }).catch((error: Error) => error);
  await hosts.sink.restartSwitch();
  await first.closed;
  await pending;
  await expect(first.barrier()).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
  const second = await kept.connection();
  await second.barrier();
  expect(seen).toEqual(['up', 'HOST_UNREACHABLE', 'up']);
});

test('a kept connection to a bridge that is not there names the last failure', async () => {
  const kept = new KeptConnection({
    name: 'nowhere',
    connect: (signal) => hosts.hv.host.connect(join(hosts.dir, 'nowhere.mgmt'), signal),
  }).start();
  onTestFinished(() => kept.close());
  await expect(kept.connection(200)).rejects.toThrow(/no switch in 200 ms: .*ENOENT/);
});
