/**
 * Processes that belong to the VM itself and stay in it. They are never gateway processes; a gateway process that is linked to one of
 * them by more than a known external can't be moved, and one of them that serves others by a port can't be missed (refusals.ts).
 */
import type { Listener } from '../../criu/manifest.ts';
import type { Process } from './snapshot.ts';

/** DHCP for IPv4 and IPv6, LLMNR and mDNS of a resolver, NTP: ports of clients, where nobody is owed an answer by a parked VM. */
const CLIENT_PORTS = { dhcp: [68, 546], resolver: [5353, 5355], ntp: [123] };

interface Infrastructure {
  /** What it is, for people; docs/parking-rules.md says the same. */
  what: string;
  unit?: RegExp;
  /** For what runs in a unit that is named after something else: the interface, the session. */
  programs?: readonly string[];
  /** UDP ports on which it listens as a client of others. */
  clientPorts?: readonly number[];
}

export const INFRASTRUCTURE: readonly Infrastructure[] = [
  {
    what: 'systemd itself and its per-user managers',
    unit: /^(init\.scope|user@\d+\.service)$/,
    programs: ['systemd', '(sd-pam)'],
  },
  {
    what: 'systemd-*.service: journald, logind, udevd, networkd, resolved, timesyncd, …',
    unit: /^systemd-.*\.service$/,
    clientPorts: [...CLIENT_PORTS.dhcp, ...CLIENT_PORTS.resolver],
  },
  { what: 'this agent', unit: /^seamless-vm-agent\.service$/ },
  { what: 'D-Bus and polkit', unit: /^(dbus(-broker)?|polkit)\.service$/ },
  {
    what: 'login prompts and logins at the console',
    unit: /^((serial-)?getty@.*|console-getty)\.service$/,
    programs: ['agetty', 'login'],
  },
  {
    what: 'DHCP clients and network managers: dhclient, dhcpcd, udhcpc, NetworkManager, wpa_supplicant',
    unit: /^(NetworkManager|wpa_supplicant|dhcpcd(@.*)?)\.service$/,
    programs: ['dhclient', 'dhcpcd', 'udhcpc'],
    clientPorts: CLIENT_PORTS.dhcp,
  },
  { what: 'clocks: chrony, ntpsec, openntpd', unit: /^(chrony|chronyd|ntpsec|openntpd)\.service$/ },
  {
    what: 'an NTP client that can’t but listen: ntpsec',
    unit: /^ntpsec\.service$/,
    clientPorts: CLIENT_PORTS.ntp,
  },
  { what: 'timers: cron, atd, anacron', unit: /^(cron|atd|anacron)\.service$/ },
  {
    what: 'the hypervisor’s: qemu-guest-agent, spice-vdagentd, open-vm-tools',
    unit: /^(qemu-guest-agent|spice-vdagentd|open-vm-tools)\.service$/,
  },
  {
    what: 'hardware and updates: irqbalance, smartd, unattended-upgrades, packagekit, fwupd',
    unit: /^(irqbalance|smartd|smartmontools|unattended-upgrades|packagekit|fwupd|udisks2|upower|rtkit-daemon)\.service$/,
  },
];

/** @param agent PID of this agent; its own children are in its unit, or are placeholders. */
export function isInfrastructure(process: Process, agent: number): boolean {
  return (
    process.pid === 1 || process.pid === agent || process.parent === agent || kindsOf(process).length > 0
  );
}

/** True when infrastructure listens there for its own sake, so that nobody misses it while the VM is parked. */
export function isClientListener(process: Process, { protocol, port }: Listener): boolean {
  return protocol === 'udp' && kindsOf(process).some(({ clientPorts = [] }) => clientPorts.includes(port));
}

function kindsOf({ program, unit }: Process): Infrastructure[] {
  return INFRASTRUCTURE.filter((kind) => kind.unit?.test(unit) || kind.programs?.includes(program));
}
