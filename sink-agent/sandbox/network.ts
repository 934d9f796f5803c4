/**
 * A sink's network: a veth pair, whose inner end takes the VM's interface name, MAC, addresses, routes and known neighbours.
 * The outer end is up, but in no bridge: the orchestrator plugs it in.
 */
import { SeamlessError } from '../../common/errors.ts';
import { exec } from '../../common/exec.ts';
import type { NetworkIdentity, NetworkInterface } from '../../criu/manifest.ts';
import { NETWORK_SETTINGS, settingPath } from '../../criu/network-settings.ts';
import { judgeResets } from './resets.ts';

/** A name server, say, binds each of the VM's addresses by itself, also that of the management network, which a sink has no part of. */
const NONLOCAL_BIND = ['net/ipv4/ip_nonlocal_bind=1', 'net/ipv6/ip_nonlocal_bind=1'];

/** Makes the network of the container whose PID 1 is `pid`; `port` names the host's end. */
export async function createNetwork(port: string, pid: number, identity: NetworkIdentity): Promise<void> {
  const inner = onlyInterface(identity);
  const inside = ['nsenter', '--target', String(pid), '--net'] as const;
  await removeNetwork(port);
  await exec(['ip', '-batch', '-'], { input: outerCommands(port, pid, inner) });
  await Promise.all([
    // Userspace Open vSwitch passes packets on as they are: a checksum left to the hardware would arrive unmade.
    exec(['ethtool', '-K', port, 'tx', 'off']),
    exec([...inside, 'ethtool', '-K', inner.name, 'tx', 'off']),
    exec([...inside, 'ip', '-batch', '-'], { input: innerCommands(identity) }),
    judgeResets(pid),
    applySettings(pid, inner.name, identity.settings ?? {}),
  ]);
}

/** What `ip` says of a device that it does not find, and the kernel of one that went after `ip` had found it. */
const GONE = /Cannot find device|No such device/;

/** Removes the pair by its outer end; nothing to do when it is gone: it goes with the container, whose namespace the kernel clears in its own time. */
export async function removeNetwork(port: string): Promise<void> {
  await exec(['ip', 'link', 'delete', port]).catch((thrown: unknown) => {
    if (!(thrown instanceof SeamlessError) || !GONE.test(String(thrown.details.output))) throw thrown;
  });
}

export function outerCommands(port: string, pid: number, inner: NetworkInterface): string {
  return lines([
    `link add ${port} mtu ${inner.mtu} type veth peer name ${inner.name} address ${inner.mac} mtu ${inner.mtu} netns ${pid}`,
    `link set ${port} up`,
  ]);
}

export function innerCommands(identity: NetworkIdentity): string {
  const { name, addresses, linkLocal } = onlyInterface(identity);
  return lines([
    'link set lo up',
    // The VM need not have made its link-local address of the MAC.
    ...(linkLocal ? [`link set ${name} addrgenmode none`] : []),
    `link set ${name} up`,
    ...addresses.map((address) =>
      isIpv6(address)
        ? `address add ${address} dev ${name} nodad`
        : `address add ${address} brd + dev ${name}`,
    ),
    ...(linkLocal ?? []).map((address) => `address add ${address} dev ${name} nodad`),
    ...identity.routes.map(
      ({ destination, gateway, source }) =>
        `route replace ${prefix(destination, gateway ?? source ?? '')}${gateway ? ` via ${gateway}` : ''} dev ${name}` +
        (source ? ` src ${source}` : ''),
    ),
    ...identity.neighbours.map(
      ({ address, mac }) => `neighbour replace ${address} lladdr ${mac} dev ${name} nud reachable`,
    ),
  ]);
}

/** A sink has one port; what the words may hold is checked, since they become lines of a batch. */
function onlyInterface(identity: NetworkIdentity): NetworkInterface {
  const [inner, ...others] = identity.interfaces;
  if (!inner || others.length > 0) {
    throw new SeamlessError(
      'REQUEST_INVALID',
      `Expected one network interface, got ${identity.interfaces.length}`,
    );
  }
  const words = [
    identity.hostname,
    ...[inner.name, inner.mac, String(inner.mtu), ...inner.addresses, ...(inner.linkLocal ?? [])],
    ...identity.routes.flatMap((route) => [route.destination, route.gateway ?? '-', route.source ?? '-']),
    ...identity.neighbours.flatMap((neighbour) => [neighbour.address, neighbour.mac]),
  ];
  const odd = words.find((word) => !/^[A-Za-z0-9.:/_-]+$/.test(word));
  if (odd !== undefined) {
    throw new SeamlessError('REQUEST_INVALID', `Expected names and addresses in the network, got "${odd}"`);
  }
  return inner;
}

/** What the sink's kernel does not know, or does not have (a way of congestion control), stays as it is there. */
async function applySettings(pid: number, device: string, settings: Record<string, string>): Promise<void> {
  const changes = [...NONLOCAL_BIND, ...settingChanges(device, settings)];
  const sysctl = ['sysctl', '--quiet', '--ignore', '--write', ...changes];
  await exec(['nsenter', '--target', String(pid), '--net', ...sysctl]).catch(() => {});
}

/** As `sysctl` takes them; only what is on the list, and only words and numbers. */
export function settingChanges(device: string, settings: Record<string, string>): string[] {
  if (!/^[A-Za-z0-9._-]+$/.test(device)) return [];
  return NETWORK_SETTINGS.flatMap((setting) => {
    const value = settings[setting];
    if (value === undefined || !/^[\w\t -]+$/.test(value)) return [];
    return [`${settingPath(setting, device).replace('/proc/sys/', '')}=${value}`];
  });
}

/** Without it a default route would be one of IPv4 whatever its gateway: a batch takes no family. */
function prefix(destination: string, other: string): string {
  if (destination !== 'default') return destination;
  return isIpv6(other) ? '::/0' : '0.0.0.0/0';
}

function isIpv6(address: string): boolean {
  return address.includes(':');
}

function lines(commands: string[]): string {
  return `${commands.join('\n')}\n`;
}
