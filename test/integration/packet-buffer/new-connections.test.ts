/** What the packet buffer makes of connection requests: it tells who asked, and health checks' are not for the VM. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { bufferSocket, PacketBuffer } from '../../../orchestrator/packet-buffer/packet-buffer.ts';
import { SynWatch } from '../../../orchestrator/packet-buffer/syn-watch.ts';
import type { HeldPacket } from '../../../orchestrator/sagas/ports.ts';
import { DatapathControl } from '../../../ovs/datapath.ts';
import { KeptConnection } from '../../../ovs/openflow/kept-connection.ts';
import { Redirect } from '../../../ovs/redirect.ts';
import {
  CLIENT_IP,
  CLIENT_IP6,
  run,
  startTwoHosts,
  type TwoHosts,
  VM_IP,
  VM_IP6,
  VM_MAC,
} from '../ovs/two-hosts.ts';
import { waitFor } from '../sink-agent/fixtures/wait.ts';

const ROOT = new URL('../../../', import.meta.url).pathname;
const CHECKER = '10.7.0.77';

let hosts: TwoHosts;
let vmBridge: KeptConnection;
let sinkBridge: KeptConnection;
let redirect: Redirect;
let buffer: PacketBuffer;
const undo: (() => Promise<unknown>)[] = [];
const policy = { heldTcpPorts: [22], healthChecks: ['10.7.0.64/28', 'fd07::64'] };

beforeAll(async () => {
  await exec([`${ROOT}scripts/build-helpers`, '--sanitize'], { timeoutMs: 110_000 });
  hosts = await startTwoHosts('slg-nc');
  for (const address of [CHECKER, 'fd07::64']) {
    const bits = address.includes(':') ? '128' : '32';
    const flags = address.includes(':') ? ['nodad'] : [];
    await hosts.client.host.run(['ip', 'addr', 'add', `${address}/${bits}`, 'dev', 'eth0', ...flags]);
    for (const place of [hosts.vm, hosts.stack]) {
      const lladdr = ['lladdr', '52:54:00:00:00:01', 'dev', 'eth0', 'nud', 'permanent'];
      await place.host.run(['ip', 'neigh', 'replace', address, ...lladdr]);
      if (bits === '32') await place.host.run(['ip', 'route', 'replace', `${address}/32`, 'dev', 'eth0']);
    }
  }
  vmBridge = new KeptConnection({ name: 'br-int of hv', connect: hosts.hv.connect }).start();
  sinkBridge = new KeptConnection({ name: 'br-int of sink', connect: hosts.sink.connect }).start();
  redirect = new Redirect({
    ...{ vmName: 'vm1', mac: VM_MAC, ...policy, vmBridge, sinkBridge },
    vmDatapath: new DatapathControl(hosts.hv.connectControl, { name: 'hv' }),
    sinkDatapath: new DatapathControl(hosts.sink.connectControl, { name: 'sink' }),
    ports: { vm: 'qvo-vm1', vmTunnel: 'vxlan0', sinkTunnel: 'vxlan0', sink: 'sink-vm1' },
  });
  buffer = new PacketBuffer({
    ...{ host: hosts.hv.host, program: `${ROOT}build/sanitized/packet-buffer`, vm: 'vm1', mac: VM_MAC },
    ...{ tap: 'tap-vm1', bridge: 'qbr-vm1', uplink: 'qvb-vm1', queue: 42, runDir: hosts.dir, ...policy },
  });
});

afterEach(async () => {
  await buffer.disarm({ force: true });
  for (const step of undo.splice(0).reverse()) await step();
});

afterAll(async () => {
  await vmBridge?.close();
  await sinkBridge?.close();
  await hosts?.stop();
});

/** Begins to connect, and leaves it trying; prints what became of it. */
function connect(address: string, port: number, source: string) {
  const script = `require('node:net').connect({ host: '${address}', port: ${port}, localAddress: '${source}' })
    .on('connect', () => { console.log('connected'); process.exit(); }).on('error', (e) => console.log(e.code));`;
  return run(hosts.client, [process.execPath, '-e', script], undo);
}

test('each connection request that is held is told, once, to who watches', async () => {
  await redirect.toSink();
  await buffer.arm();
  const told: HeldPacket[] = [];
  const watch = new SynWatch(hosts.hv.host, bufferSocket(hosts.dir, 'vm1'), (packet) => told.push(packet));
  undo.push(async () => watch.stop());
  await watch.start();
  await watch.start(); // ensures
  connect(VM_IP, 22, CLIENT_IP);
  connect(VM_IP6, 22, CLIENT_IP6);
  await waitFor('two requests', () => (told.length >= 2 ? true : null));
  // A second or so later the clients ask again; that is folded, and told no more.
  await waitFor('a retransmission', async () => ((await buffer.status()).folded > 0 ? true : null));
  const common = { protocol: 'tcp', syn: true, port: 22, sourcePort: expect.any(Number) };
  expect(told).toHaveLength(2);
  expect(told).toEqual(
    expect.arrayContaining([
      { ...common, source: CLIENT_IP, destination: VM_IP },
      { ...common, source: CLIENT_IP6, destination: VM_IP6 },
    ]),
  );
}, 20_000);

test('health checks’ requests go to the sink: while it is parked, and those that waited during the park', async () => {
  const server = `require('node:net').createServer((s) => s.destroy()).listen(22, () => console.log('ready'));`;
  const listener = run(hosts.stack, [process.execPath, '-e', server], undo);
  expect(await listener.line()).toBe('ready');
  await redirect.toVm();
  await buffer.arm();
  const early = [connect(VM_IP, 22, CHECKER), connect(VM_IP6, 22, 'fd07::64')];
  const other = connect(VM_IP, 22, CLIENT_IP);
  await waitFor('three requests', async () => ((await buffer.held()).connections === 3 ? true : null));
  await redirect.toSink();
  expect((await buffer.divert()).held).toMatchObject({ packets: 1, first: { source: CLIENT_IP } });
  for (const check of early) expect(await check.line()).toBe('connected');
  expect(await connect(VM_IP, 22, CHECKER).line()).toBe('connected');
  expect(await connect(VM_IP6, 22, 'fd07::64').line()).toBe('connected');
  expect((await buffer.held()).packets).toBe(1);
  expect(other.child.exitCode).toBeNull();
  expect(await redirect.stateOnVmBridge()).toBe('parked');
}, 20_000);

test('what a closed sink gives back reaches the VM’s port: a connection request, a datagram', async () => {
  await redirect.toVm();
  await buffer.arm();
  // As the sink agent sends it, in the clients' names.
  const send = `import socket,sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('eth0', 0))
for line in sys.argv[1:]: s.send(bytes.fromhex(line))`;
  const ether = '525400000002' + '525400000001' + '0800';
  const syn = '4500002800004000400626c00a0700010a070002c00000160000000100000000500200000000faf0';
  const datagram = '4500001c00004000401126c10a0700010a070002c00100350008bdb6';
  await hosts.stack.host.run(['python3', '-c', send, `${ether}${syn}`, `${ether}${datagram}`]);
  await waitFor('both', async () => ((await buffer.held()).packets === 2 ? true : null));
  expect(await buffer.held()).toMatchObject({ connections: 1, first: { syn: true, sourcePort: 0xc000 } });
}, 20_000);
