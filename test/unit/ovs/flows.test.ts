import { describe, expect, test } from 'vitest';
import { COOKIE_PREFIX, cookieOf, sinkBridgeFlows, vmBridgeFlows } from '../../../ovs/flows.ts';
import type { FlowSpec } from '../../../ovs/openflow/flow-mod.ts';

const vm = { vmName: 'vm1', mac: '52:54:00:00:00:02', heldTcpPorts: [22, 80] };
const vmPorts = { vmPort: 1, tunnelPort: 9 };
const destined = (flows: FlowSpec[]) => flows.find((flow) => flow.priority === 1000)?.actions;

describe('on the VM’s bridge', () => {
  test('an awake VM gets its packets by an explicit flow', () => {
    const flows = vmBridgeFlows(vm, 'awake', vmPorts);
    expect(flows).toHaveLength(1);
    expect(destined(flows)).toEqual([{ type: 'output', port: 1 }]);
  });

  test('a parked VM’s packets go through the tunnel, and its own frames are dropped', () => {
    const flows = vmBridgeFlows(vm, 'parked', vmPorts);
    expect(destined(flows)).toEqual([{ type: 'output', port: 9 }]);
    expect(flows).toContainEqual(
      expect.objectContaining({ match: { inPort: 1, ethSrc: vm.mac }, actions: [] }),
    );
  });

  test('each held port has a flow for IPv4 and one for IPv6, to the VM’s port and to us', () => {
    const syns = vmBridgeFlows(vm, 'parked', vmPorts).filter((flow) => flow.match.tcpDst !== undefined);
    expect(syns.map(({ match }) => [match.tcpDst, match.ethType])).toEqual([
      [22, 0x0800],
      [22, 0x86dd],
      [80, 0x0800],
      [80, 0x86dd],
    ]);
    for (const syn of syns) {
      expect(syn.actions).toEqual([
        { type: 'output', port: 1 },
        { type: 'controller', maxBytes: 128 },
      ]);
    }
  });
});

test('health checks’ connection requests go to the sink on both bridges, before those that are held', () => {
  const checked = { ...vm, healthChecks: ['10.0.0.5/32', 'fd00::1/64'] };
  const flows = [
    ...vmBridgeFlows(checked, 'parked', vmPorts),
    ...sinkBridgeFlows(checked, 'parked', { tunnelPort: 8, sinkPort: 4 }),
  ].filter(({ priority }) => priority === 1150);
  expect(flows.map(({ match, actions }) => [match.ipv4Src ?? match.ipv6Src, actions])).toEqual([
    ['10.0.0.5', [{ type: 'output', port: 9 }]],
    ['fd00::/64', [{ type: 'output', port: 9 }]],
    ['10.0.0.5', [{ type: 'output', port: 4 }]],
    ['fd00::/64', [{ type: 'output', port: 4 }]],
  ]);
  for (const { match } of flows) expect(match.tcpFlags).toEqual({ value: 0x02, mask: 0x12 });
});

test('a SYN on an open connection is answered by its socket in the sink, and wakes nobody', () => {
  const client = { address: '10.0.0.5', port: 4000 };
  const other = { address: 'fd00::5', port: 4001 };
  const open = { ...vm, connections: [client, other].map((each) => ({ port: 22, client: each })) };
  const flows = [
    ...vmBridgeFlows(open, 'parked', { vmPort: 3, tunnelPort: 9 }),
    ...sinkBridgeFlows(open, 'parked', { tunnelPort: 9, sinkPort: 4 }),
  ].filter(({ match }) => match.tcpSrc !== undefined);
  const held = vmBridgeFlows(open, 'parked', { vmPort: 3, tunnelPort: 9 }).find(
    ({ actions }) => actions.length === 2,
  );
  expect(flows.every(({ priority }) => priority > (held?.priority ?? 0))).toBe(true);
  expect(
    flows.map(({ match, actions }) => [match.ipv4Src ?? match.ipv6Src, match.tcpSrc, match.tcpDst, actions]),
  ).toEqual([
    ['10.0.0.5', 4000, 22, [{ type: 'output', port: 9 }]],
    ['fd00::5', 4001, 22, [{ type: 'output', port: 9 }]],
    ['10.0.0.5', 4000, 22, [{ type: 'output', port: 4 }]],
    ['fd00::5', 4001, 22, [{ type: 'output', port: 4 }]],
  ]);
});

describe('on the sink server’s bridge', () => {
  test('the sink of an awake VM is closed in both directions, but for what it gives back to the VM', () => {
    const flows = sinkBridgeFlows(vm, 'awake', { tunnelPort: 9, sinkPort: 4 });
    expect(destined(flows)).toEqual([{ type: 'output', port: 9 }]);
    expect(flows).toContainEqual(expect.objectContaining({ match: { inPort: 4 }, actions: [] }));
    const open = flows.filter(({ match, actions }) => match.inPort === 4 && actions.length > 0);
    expect(open.map(({ match, actions }) => [match, actions])).toEqual([
      [{ inPort: 4, ethDst: vm.mac }, [{ type: 'output', port: 9 }]],
    ]);
  });

  test('without a sink there is only the way to the VM, and back for what came by the tunnel', () => {
    const flows = sinkBridgeFlows(vm, 'awake', { tunnelPort: 9 });
    expect(flows).toHaveLength(2);
    expect(flows[1]?.match).toEqual({ ethDst: vm.mac, inPort: 9 });
    expect(flows[1]?.actions).toEqual([{ type: 'output', port: 0xfffffff8 }]);
  });

  test('held SYNs that enter there go to the VM’s bridge', () => {
    const flows = sinkBridgeFlows(vm, 'parked', { tunnelPort: 9, sinkPort: 4 });
    expect(destined(flows)).toEqual([{ type: 'output', port: 4 }]);
    const syns = flows.filter((flow) => flow.match.tcpDst === 22);
    expect(syns.map((flow) => flow.actions)).toEqual(Array(2).fill([{ type: 'output', port: 9 }]));
  });
});

test('cookies have our prefix and tell VMs apart', () => {
  expect(cookieOf('vm1') >> 32n).toBe(COOKIE_PREFIX);
  expect(cookieOf('vm1')).not.toBe(cookieOf('vm2'));
});
