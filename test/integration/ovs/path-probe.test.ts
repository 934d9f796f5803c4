/** Whether a sink can be reached, asked of two real switches and a tunnel that is whole or broken. */
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { asSeamlessError } from '../../../common/errors.ts';
import { DatapathControl } from '../../../ovs/datapath.ts';
import { KeptConnection } from '../../../ovs/openflow/kept-connection.ts';
import { type PathProbeOptions, probePath } from '../../../ovs/path-probe.ts';
import { Redirect } from '../../../ovs/redirect.ts';
import { type SwitchHost, startTwoHosts, type TwoHosts, VM_IP, VM_IP6, VM_MAC } from './two-hosts.ts';

const MTU = 1500;
let hosts: TwoHosts;
let options: PathProbeOptions;

beforeAll(async () => {
  hosts = await startTwoHosts('slo-pp');
  const bridge = (host: SwitchHost) =>
    new KeptConnection({ name: `br-int of ${host.name}`, connect: host.connect }).start();
  const datapath = (host: SwitchHost) => new DatapathControl(host.connectControl, { name: host.name });
  const redirect = {
    ...{ vmName: 'vm1', mac: VM_MAC, heldTcpPorts: [] },
    ...{ vmBridge: bridge(hosts.hv), sinkBridge: bridge(hosts.sink) },
    ...{ vmDatapath: datapath(hosts.hv), sinkDatapath: datapath(hosts.sink) },
    ports: { vm: 'qvo-vm1', vmTunnel: 'vxlan0', sinkTunnel: 'vxlan0', sink: 'sink-vm1' },
  };
  await underlayMtu(MTU + 50);
  await new Redirect(redirect).closeSink();
  options = { ...redirect, address: VM_IP, mtu: MTU, answerMs: 1000 };
});

afterAll(async () => {
  await options?.vmBridge.close();
  await options?.sinkBridge.close();
  options?.vmDatapath?.close();
  options?.sinkDatapath?.close();
  await hosts?.stop();
});

async function underlayMtu(bytes: number): Promise<void> {
  for (const { host } of [hosts.hv, hosts.sink])
    await host.run(['ip', 'link', 'set', 'phy0', 'mtu', `${bytes}`]);
}

async function refusal(changed: Partial<PathProbeOptions> = {}) {
  const error = await probePath({ ...options, ...changed }).then(() => null, asSeamlessError);
  expect(error?.code).toBe('SINK_UNREACHABLE');
  return error?.message;
}

const flowsOf = async (host: SwitchHost) =>
  (await host.ofctl('dump-flows', 'br-int')).split('\n').sort().join();
const bare = (flows: string) => flows.replaceAll(/(duration|n_packets|n_bytes|idle_age)=[^,]*,/g, '');

test('a closed sink answers the probe by its IPv4 and its IPv6 address, and no flow of it stays', async () => {
  const before = await Promise.all([hosts.hv, hosts.sink].map(flowsOf));
  await probePath(options);
  await probePath({ ...options, address: VM_IP6 });
  const after = await Promise.all([hosts.hv, hosts.sink].map(flowsOf));
  expect(after.map(bare)).toEqual(before.map(bare));
});

test('a tunnel that leads nowhere is told from a sink that is dumb', async () => {
  const { host } = hosts.sink;
  await host.run(['ip', 'link', 'set', 'phy0', 'down']);
  expect(await refusal()).toContain('nothing arrived at port vxlan0 of br-int of sink');
  await host.run(['ip', 'link', 'set', 'phy0', 'up']);
  await hosts.stack.host.run(['ip', 'link', 'set', 'eth0', 'down']);
  onTestFinished(async () => void (await hosts.stack.host.run(['ip', 'link', 'set', 'eth0', 'up'])));
  expect(await refusal()).toContain('the sink behind sink-vm1 did not answer');
});

test('an answer that is lost on its way back is told', async () => {
  await hosts.hv.ofctl('add-flow', 'br-phy', 'in_port=phy0,udp,actions=drop');
  onTestFinished(async () => void (await hosts.hv.ofctl('del-flows', 'br-phy', 'in_port=phy0,udp')));
  expect(await refusal()).toContain(
    'its answer went into port vxlan0 of br-int of sink and did not come back',
  );
});

test('a network below the tunnel that passes only short packets is found', async () => {
  await underlayMtu(MTU);
  onTestFinished(() => underlayMtu(MTU + 50));
  expect(await refusal()).toContain('packets of 1500 bytes, but only short ones pass; raise the MTU');
});
