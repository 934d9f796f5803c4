import { describe, expect, it } from 'vitest';
import { bareAddresses, networkIdentity } from '../../../vm-agent/checkpoint/network.ts';

const link = (ifname: string, address: string, local: string[], flags: string[] = []) => ({
  ifname,
  address,
  mtu: 1500,
  flags,
  addr_info: local.map((text) => ({
    local: text,
    prefixlen: 24,
    scope: text.startsWith('fe80') ? 'link' : 'global',
  })),
});

const SEEN = {
  links: [
    link('lo', '00:00:00:00:00:00', ['127.0.0.1'], ['LOOPBACK']),
    link('eth0', '52:54:00:77:00:01', ['10.77.0.11', 'fd77::11', 'fe80::1']),
    link('eth1', '52:54:00:78:00:01', ['10.78.0.11']),
  ],
  routes: [
    { dst: 'default', gateway: '10.77.0.1', dev: 'eth0' },
    { dst: '10.77.0.0/24', dev: 'eth0', protocol: 'kernel', prefsrc: '10.77.0.11' },
    { dst: '10.9.0.0/16', gateway: '10.77.0.3', dev: 'eth0', prefsrc: '10.77.0.11', protocol: 'static' },
    { dst: '10.78.0.0/16', dev: 'eth1' },
    { type: 'local', dst: '10.77.0.11', dev: 'eth0', table: 'local' },
  ],
  neighbours: [
    { dst: '10.77.0.2', dev: 'eth0', lladdr: '52:54:00:77:01:02', state: ['REACHABLE'] },
    { dst: '10.77.0.9', dev: 'eth0', state: ['FAILED'] },
    { dst: '10.78.0.1', dev: 'eth1', lladdr: '52:54:00:78:01:02', state: ['REACHABLE'] },
  ],
};

describe('the presence of a VM on the production network', () => {
  it('is all interfaces but loopback and the one that carries the management address', () => {
    const network = networkIdentity(SEEN, '10.78.0.11');
    expect(network.interfaces).toEqual([
      {
        name: 'eth0',
        mac: '52:54:00:77:00:01',
        mtu: 1500,
        addresses: ['10.77.0.11/24', 'fd77::11/24'],
        linkLocal: ['fe80::1/24'],
      },
    ]);
    expect(bareAddresses(network)).toEqual(['10.77.0.11', 'fd77::11']);
  });

  it('has the routes that somebody set, and not what the kernel makes of an address', () => {
    expect(networkIdentity(SEEN, '10.78.0.11').routes).toEqual([
      { destination: 'default', interface: 'eth0', gateway: '10.77.0.1' },
      { destination: '10.9.0.0/16', interface: 'eth0', gateway: '10.77.0.3', source: '10.77.0.11' },
    ]);
  });

  it('has the neighbours that answered', () => {
    expect(networkIdentity(SEEN, '10.78.0.11').neighbours).toEqual([
      { address: '10.77.0.2', mac: '52:54:00:77:01:02', interface: 'eth0' },
    ]);
  });
});
