import { expect, test } from 'vitest';
import { connectionPolicy, parseConfig, type VmConfig } from '../../../orchestrator/config.ts';

const AGENT = { address: '10.78.0.2', port: 7443, serverName: 'sink1' };
const VALID = {
  stateDir: '/var/lib/seamless',
  socket: '/run/seamless/seamless.sock',
  tls: { ca: 'ca.pem', cert: 'cert.pem', key: 'key.pem' },
  hosts: [
    {
      name: 'hv',
      transport: { type: 'local', netns: '/run/netns/hv' },
      openflowSocket: '/run/br-int.mgmt',
      switchControl: '/run/ovs-vswitchd.ctl',
      ovsdbSocket: '/run/db.sock',
      bridge: 'br-int',
    },
  ],
  sinks: [{ name: 'sink1', host: 'hv', agent: AGENT, tunnelPort: 'vxlan0' }],
  vms: [
    {
      name: 'vm1',
      host: 'hv',
      mac: '52:54:00:77:00:01',
      addresses: ['10.77.0.11/24', 'fd77::11/64'],
      port: 'qvo-vm1',
      tunnelPort: 'vxlan0',
      tap: 'tap-vm1',
      qmpSocket: '/run/vm1/qmp.sock',
      cgroup: '/sys/fs/cgroup/memory/vm1',
      agent: AGENT,
      sink: 'sink1',
      template: 'default',
    },
  ],
};

test('a valid configuration is given back as it is, and can’t be changed', () => {
  const config = parseConfig(structuredClone(VALID));
  expect(config).toEqual(VALID);
  expect(() => Object.assign(config.vms[0] as object, { name: 'other' })).toThrow(TypeError);
});

test('all problems are reported together, each with its place', () => {
  const { stateDir: _stateDir, ...rest } = structuredClone(VALID);
  const value = { ...rest, colour: 'red', hosts: [{ ...rest.hosts[0], name: '-', bridge: 1 }] };
  expect(problemsOf(value)).toEqual(
    expect.arrayContaining([
      '/stateDir: missing',
      '/colour: unknown key',
      expect.stringMatching(/^\/hosts\/0\/name: /),
      expect.stringMatching(/^\/hosts\/0\/bridge: /),
    ]),
  );
});

test('a reference to what is not defined, and a name that is there twice, are problems', () => {
  const [vm] = VALID.vms;
  const value = { ...VALID, vms: [vm, { ...vm, host: 'nowhere', sink: 'none' }] };
  expect(problemsOf(value)).toEqual([
    '/vms: “vm1” is there twice',
    '/vms/1/host: “nowhere” is not defined',
    '/vms/1/sink: “none” is not defined',
  ]);
});

const withVm = (more: object) => ({ ...VALID, vms: [{ ...VALID.vms[0], ...more }] });

test('ports are held unless they are to be accepted, and sources of health checks are written in one way', () => {
  const ports = { 'tcp/22': { syn: 'hold' }, 'tcp/80': { syn: 'accept' } };
  const [vm] = parseConfig(withVm({ ports, healthChecks: ['10.0.0.5/32', '10.1.2.3/16', 'FD00::1'] })).vms;
  expect(connectionPolicy(vm as VmConfig)).toEqual({
    acceptPorts: [80],
    healthChecks: ['10.0.0.5', '10.1.0.0/16', 'fd00::1'],
  });
  const [plain] = parseConfig(structuredClone(VALID)).vms;
  expect(connectionPolicy(plain as VmConfig)).toEqual({ acceptPorts: [], healthChecks: [] });
});

test('a port, policy or source that means nothing is refused with its place', () => {
  expect(problemsOf(withVm({ ports: { 'udp/53': { syn: 'hold' }, 'tcp/70000': { syn: 'hold' } } }))).toEqual([
    '/vms/0/ports: expected a key like “tcp/443”, got “udp/53”',
    '/vms/0/ports: expected a key like “tcp/443”, got “tcp/70000”',
  ]);
  expect(problemsOf(withVm({ ports: { 'tcp/80': { syn: 'drop' } } }))).toContainEqual(
    expect.stringMatching(/^\/vms\/0\/ports\/tcp~180\/syn: /),
  );
  const many = Array.from({ length: 65 }, (_each, index) => `10.0.0.${index}`);
  expect(problemsOf(withVm({ healthChecks: many }))).toEqual([
    '/vms/0: expected at most 64 healthChecks, got 65',
  ]);
  expect(problemsOf(withVm({ healthChecks: ['balancer', '0.0.0.0/0'] }))).toEqual([
    '/vms/0/healthChecks/0: expected an IP address or a prefix like 10.0.0.0/8, got "balancer"',
    '/vms/0/healthChecks/1: expected some sources, got all of them',
  ]);
});

test('a host by ssh says how it is reached and which key it has', () => {
  const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3wsxZj2TtYrUKuPgWrxDzo7b1uZDd6hFKw3AlPGZ9R';
  const ssh = { type: 'ssh', address: 'hv1', keyFile: '/etc/seamless/id', hostKey: key };
  const by = (transport: object) => ({ ...VALID, hosts: [{ ...VALID.hosts[0], transport }] });
  expect(problemsOf(by(ssh))).toEqual([]);
  expect(problemsOf(by({ ...ssh, hostKey: [key, 'SHA256:short'] }))).toEqual([
    expect.stringMatching(/^\/hosts\/0\/transport\/hostKey: .*SHA256:short/),
  ]);
  const { hostKey: _hostKey, ...keyless } = ssh;
  expect(problemsOf(by({ ...keyless, colour: 'red' }))).toEqual([
    '/hosts/0/transport/hostKey: missing',
    '/hosts/0/transport/colour: unknown key',
  ]);
  expect(problemsOf(by({ type: 'local', netns: 1 }))).toEqual(['/hosts/0/transport/netns: must be string']);
  expect(problemsOf(by({ type: 'telnet' }))).toEqual(['/hosts/0/transport/type: expected local or ssh']);
});

function problemsOf(value: unknown): unknown {
  try {
    parseConfig(value);
    return [];
  } catch (thrown) {
    expect(thrown).toMatchObject({ code: 'CONFIG_INVALID' });
    return (thrown as { details: { problems: string[] } }).details.problems;
  }
}

test('switching off through Nova needs to know Nova, and the server of each VM, which no two share', () => {
  expect(problemsOf({ ...VALID, switchOff: 'nova' })).toEqual([
    '/openstack: missing, and `switchOff: nova` needs it',
    '/vms: no openstack.serverId of vm1, and `switchOff: nova` needs it',
  ]);
  const openstack = { serverId: '4e7a1c52-98cf-4c6e-a8b3-7f0e2d5b9a11' };
  const vms = ['vm1', 'vm2'].map((name) => ({ ...VALID.vms[0], name, openstack }));
  expect(problemsOf({ ...VALID, vms })).toEqual([
    expect.stringContaining(`“${openstack.serverId}” is there twice`),
  ]);
});
