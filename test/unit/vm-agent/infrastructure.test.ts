import { describe, expect, it } from 'vitest';
import { gatewaySet } from '../../../vm-agent/gateway/closure.ts';
import { refusalsOf } from '../../../vm-agent/gateway/refusals.ts';
import { guest, listening, OPTIONS, type ProcessSketch } from './guest.ts';

/** A process that listens on this port on all addresses. */
function scanOf(
  sketch: Omit<ProcessSketch, 'pid'>,
  port: number,
  protocol: 'tcp' | 'udp' = 'tcp',
  address?: string,
) {
  const snapshot = guest([{ pid: 200, fds: ['socket:[1]'], ...sketch }], {
    1: listening(port, address, protocol),
  });
  const set = gatewaySet(snapshot, OPTIONS);
  const refusals = refusalsOf({
    ...{ snapshot, set, details: new Map(), units: new Map(), availableBytes: 100, options: OPTIONS },
  });
  return { members: [...set.members.keys()], rules: refusals.map(({ rule }) => rule) };
}

describe('processes of the VM itself', () => {
  it.each([
    ['systemd-journal', 'systemd-journald.service'],
    ['systemd-network', 'systemd-networkd.service'],
    ['dbus-daemon', 'dbus.service'],
    ['agetty', 'getty@tty1.service'],
    ['agetty', 'serial-getty@ttyS0.service'],
    ['dhclient', 'ifup@eth0.service'],
    ['dhcpcd', 'networking.service'],
    ['udhcpc', 'networking.service'],
    ['NetworkManager', 'NetworkManager.service'],
    ['wpa_supplicant', 'wpa_supplicant.service'],
    ['cron', 'cron.service'],
    ['atd', 'atd.service'],
    ['chronyd', 'chrony.service'],
    ['ntpd', 'ntpsec.service'],
    ['qemu-ga', 'qemu-guest-agent.service'],
    ['irqbalance', 'irqbalance.service'],
    ['polkitd', 'polkit.service'],
    ['unattended-upgr', 'unattended-upgrades.service'],
    ['systemd', 'user@1000.service'],
    ['node', 'seamless-vm-agent.service'],
  ])('never move: %s of %s; one that serves others keeps the VM awake', (program, unit) => {
    expect(scanOf({ program, unit }, 4711)).toEqual({ members: [], rules: ['infrastructure-listener'] });
    expect(scanOf({ program, unit }, 4711, 'tcp', '127.0.0.1')).toEqual({ members: [], rules: [] });
  });

  it.each([
    ['dhclient', 'ifup@eth0.service', 68],
    ['dhcpcd', 'networking.service', 546],
    ['systemd-network', 'systemd-networkd.service', 68],
    ['systemd-resolve', 'systemd-resolved.service', 5355],
    ['systemd-resolve', 'systemd-resolved.service', 5353],
    ['ntpd', 'ntpsec.service', 123],
  ])('are missed by nobody where they are clients: %s of %s, UDP %i', (program, unit, port) => {
    expect(scanOf({ program, unit }, port, 'udp')).toEqual({ members: [], rules: [] });
  });

  it('are missed when they serve time to others, or logs', () => {
    expect(scanOf({ program: 'chronyd', unit: 'chrony.service' }, 123, 'udp').rules).toEqual([
      'infrastructure-listener',
    ]);
    const gateway = { program: 'systemd-journal', unit: 'systemd-journal-gatewayd.service' };
    expect(scanOf(gateway, 19531).rules).toEqual(['infrastructure-listener']);
  });

  it('are not the services of the VM: these move', () => {
    for (const program of [
      'sshd',
      'rsyslogd',
      'exim4',
      'master',
      'avahi-daemon',
      'rpcbind',
      'dnsmasq',
      'snmpd',
    ]) {
      expect(scanOf({ program }, 4711)).toEqual({ members: [200], rules: [] });
    }
  });

  it('a socket that nobody has open is the kernel’s own, and keeps the VM awake', () => {
    const snapshot = guest([], { 7: listening(2049) });
    const set = gatewaySet(snapshot, OPTIONS);
    const given = {
      snapshot,
      set,
      details: new Map(),
      units: new Map(),
      availableBytes: 100,
      options: OPTIONS,
    };
    expect(refusalsOf(given)).toMatchObject([{ rule: 'kernel-listener', pid: 0, program: 'kernel' }]);
  });
});
