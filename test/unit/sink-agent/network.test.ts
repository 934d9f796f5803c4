import { expect, test } from 'vitest';
import type { NetworkIdentity } from '../../../criu/manifest.ts';
import { innerCommands, outerCommands, settingChanges } from '../../../sink-agent/sandbox/network.ts';

const IDENTITY: NetworkIdentity = {
  hostname: 'vm1',
  interfaces: [
    { name: 'eth0', mac: '52:54:00:00:00:01', mtu: 1450, addresses: ['10.0.0.11/24', 'fd00::11/64'] },
  ],
  routes: [
    { destination: 'default', interface: 'eth0', gateway: '10.0.0.1' },
    { destination: 'default', interface: 'eth0', gateway: 'fd00::1' },
    { destination: '10.1.0.0/16', interface: 'eth0', gateway: '10.0.0.2', source: '10.0.0.11' },
  ],
  neighbours: [{ address: '10.0.0.1', mac: '52:54:00:00:00:02', interface: 'eth0' }],
};

test('the inner end takes the VM’s name, MAC and MTU when it is made', () => {
  expect(outerCommands('sk-vm1', 77, IDENTITY.interfaces[0]!)).toBe(
    'link add sk-vm1 mtu 1450 type veth peer name eth0 address 52:54:00:00:00:01 mtu 1450 netns 77\nlink set sk-vm1 up\n',
  );
});

test('addresses, routes and neighbours are the VM’s, and IPv6 addresses need no detection of duplicates', () => {
  expect(innerCommands(IDENTITY).trimEnd().split('\n')).toEqual([
    'link set lo up',
    'link set eth0 up',
    'address add 10.0.0.11/24 brd + dev eth0',
    'address add fd00::11/64 dev eth0 nodad',
    'route replace 0.0.0.0/0 via 10.0.0.1 dev eth0',
    'route replace ::/0 via fd00::1 dev eth0',
    'route replace 10.1.0.0/16 via 10.0.0.2 dev eth0 src 10.0.0.11',
    'neighbour replace 10.0.0.1 lladdr 52:54:00:00:00:02 dev eth0 nud reachable',
  ]);
});

test('link-local addresses are the VM’s, and none is made of the MAC', () => {
  const [inner] = IDENTITY.interfaces;
  const interfaces = [{ ...inner!, linkLocal: ['fe80::7/64'] }];
  expect(innerCommands({ ...IDENTITY, interfaces }).split('\n')).toEqual(
    expect.arrayContaining(['link set eth0 addrgenmode none', 'address add fe80::7/64 dev eth0 nodad']),
  );
});

test('of the settings, those on the list are taken on, with words and numbers for values', () => {
  const settings = {
    'ipv4/ip_default_ttl': '255',
    'ipv6/conf/IFACE/hop_limit': '64',
    'ipv4/tcp_rmem': '4096\t131072\t6291456',
    'ipv4/tcp_congestion_control': 'cubic;reboot',
    'ipv4/ip_forward': '1',
  };
  expect(settingChanges('eth0', settings).sort()).toEqual([
    'net/ipv4/ip_default_ttl=255',
    'net/ipv4/tcp_rmem=4096\t131072\t6291456',
    'net/ipv6/conf/eth0/hop_limit=64',
  ]);
  expect(settingChanges('../eth0', settings)).toEqual([]);
});

test('a word that would be a command of its own is refused', () => {
  const routes = [{ destination: 'default\nlink delete lo', interface: 'eth0', gateway: '10.0.0.1' }];
  expect(() => innerCommands({ ...IDENTITY, routes })).toThrow(
    expect.objectContaining({ code: 'REQUEST_INVALID' }),
  );
});

test('a sink has one interface', () => {
  expect(() => innerCommands({ ...IDENTITY, interfaces: [] })).toThrow(
    'Expected one network interface, got 0',
  );
});
