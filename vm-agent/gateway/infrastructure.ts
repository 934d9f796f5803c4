/**
 * Processes that belong to the VM itself and stay in it whatever they listen on. They are never gateway processes; a gateway
 * process that is linked to one of them by more than a known external can't be moved (refusals.ts).
 */
import type { Process } from './snapshot.ts';

/** Units of the guest's own management: each as a pattern over the unit's name. */
const UNITS: readonly RegExp[] = [
  /^init\.scope$/,
  /^systemd-.*\.service$/, // journald, logind, udevd, resolved, networkd, timesyncd, …
  /^dbus(-broker)?\.service$/,
  /^polkit\.service$/,
  /^(serial-)?getty@.*\.service$/,
  /^console-getty\.service$/,
  /^user@\d+\.service$/, // the per-user manager; a listener that it started is refused
  /^seamless-vm-agent\.service$/,
  /^(cron|chrony|ntpsec|qemu-guest-agent|NetworkManager|wpa_supplicant)\.service$/,
];

/** DHCP clients, whose unit is the interface's: ifup@eth0.service, networking.service. */
const PROGRAMS = new Set(['dhclient', 'dhcpcd', 'udhcpc', 'agetty', 'login', 'systemd', '(sd-pam)']);

/** @param agent PID of this agent; its own children are in its unit, or are placeholders. */
export function isInfrastructure(process: Process, agent: number): boolean {
  return (
    process.pid === 1 ||
    process.pid === agent ||
    process.parent === agent ||
    PROGRAMS.has(process.program) ||
    UNITS.some((pattern) => pattern.test(process.unit))
  );
}
