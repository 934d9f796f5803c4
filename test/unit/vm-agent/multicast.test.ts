import { describe, expect, it } from 'vitest';
import { gatewaySet } from '../../../vm-agent/gateway/closure.ts';
import { groupName, joinedGroups } from '../../../vm-agent/gateway/multicast.ts';
import { refusalsOf } from '../../../vm-agent/gateway/refusals.ts';
import { guest, listening, OPTIONS } from './guest.ts';

const IGMP = `Idx	Device    : Count Querier	Group    Users Timer	Reporter
1	lo        :     2      V3
				FB0000E0     1 0:00000000		0
				010000E0     1 0:00000000		0
2	eth0      :     2      V3
				FAFFFFEF     1 0:00000000		0
				010000E0     1 0:00000000		0
`;
const IGMP6 = `1    lo              ff0200000000000000000000000000fb     1 0000000C 0
2    eth0            ff0200000000000000000000000000fb     1 00000004 0
2    eth0            ff0200000000000000000001ff770011     1 00000004 0
2    eth0            ff020000000000000000000000000001     1 0000000C 0
2    eth0            ff010000000000000000000000000001     1 00000008 0
`;

describe('multicast groups', () => {
  it('are those on other interfaces than loopback that the kernel does not join by itself', () => {
    const groups = joinedGroups(IGMP, IGMP6);
    expect(groups.map(groupName)).toEqual(['239.255.255.250', 'ff02:0:0:0:0:0:0:fb']);
    expect(joinedGroups('', '')).toEqual([]);
  });

  it('keep a VM awake whose gateway hears datagrams, unless a resolver of the VM’s own explains them', () => {
    const rules = (protocol: 'tcp' | 'udp', resolver: string[] = []) => {
      const sockets = { 1: listening(1900, '0.0.0.0', protocol), 2: listening(5353, '0.0.0.0', 'udp') };
      const own = { pid: 60, program: 'systemd-resolve', unit: 'systemd-resolved.service', fds: resolver };
      const snapshot = {
        ...guest([{ pid: 200, fds: ['socket:[1]'] }, own], resolver.length > 0 ? sockets : { 1: sockets[1] }),
        groups: ['effffffa'],
      };
      const set = gatewaySet(snapshot, OPTIONS);
      return refusalsOf({
        ...{ snapshot, set, details: new Map(), units: new Map(), availableBytes: 100, options: OPTIONS },
      }).map(({ rule }) => rule);
    };
    expect(rules('udp')).toEqual(['multicast']);
    expect(rules('tcp')).toEqual([]);
    expect(rules('udp', ['socket:[2]'])).toEqual([]);
  });
});
