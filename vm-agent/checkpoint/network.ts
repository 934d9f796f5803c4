/** The VM's presence on the production network, as the sink shall take it on. One call of `ip` for all: each process costs. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { exec } from '../../common/exec.ts';
import type { NetworkIdentity } from '../../criu/manifest.ts';
import { NETWORK_SETTINGS, settingPath } from '../../criu/network-settings.ts';

interface Link {
  ifname: string;
  address: string;
  mtu: number;
  flags: string[];
  addr_info: { local: string; prefixlen: number; scope: string }[];
}
interface Route {
  type?: string;
  dst: string;
  dev?: string;
  gateway?: string;
  prefsrc?: string;
  table?: string;
  protocol?: string;
}
interface Neighbour {
  dst: string;
  dev: string;
  lladdr?: string;
  state: string[];
}

const QUESTIONS = 'address show\nroute show table all\nneighbour show\n';

/** All interfaces but loopback and the one that carries `managementAddress`. */
export async function readNetwork(managementAddress: string): Promise<NetworkIdentity> {
  const { stdout } = await exec(['ip', '-json', '-batch', '-'], { input: QUESTIONS });
  const [links = [], routes = [], neighbours = []] = stdout
    .split('\n')
    .filter((line) => line.startsWith('['))
    .map((line) => JSON.parse(line) as unknown[]);
  const identity = networkIdentity(
    { links: links as Link[], routes: routes as Route[], neighbours: neighbours as Neighbour[] },
    managementAddress,
  );
  const [device] = identity.interfaces;
  return device ? { ...identity, settings: readSettings(device.name) } : identity;
}

/** @param seen what `ip -json` printed. */
export function networkIdentity(
  seen: { links: Link[]; routes: Route[]; neighbours: Neighbour[] },
  managementAddress: string,
): NetworkIdentity {
  const production = seen.links.filter(
    ({ flags, addr_info }) =>
      !flags.includes('LOOPBACK') && !addr_info.some(({ local }) => local === managementAddress),
  );
  const names = new Set(production.map(({ ifname }) => ifname));
  return {
    hostname: hostname(),
    interfaces: production.map(({ ifname, address, mtu, addr_info }) => ({
      name: ifname,
      mac: address,
      mtu,
      addresses: addr_info
        .filter(({ scope }) => scope !== 'link')
        .map(({ local, prefixlen }) => `${local}/${prefixlen}`),
      linkLocal: addr_info
        .filter(({ scope, local }) => scope === 'link' && local.includes(':'))
        .map(({ local, prefixlen }) => `${local}/${prefixlen}`),
    })),
    routes: seen.routes
      // What the kernel makes of an address by itself comes with the address.
      .filter(
        ({ dev, table, type, protocol }) => isOurs(dev, names) && !table && !type && protocol !== 'kernel',
      )
      .map(({ dst, dev = '', gateway, prefsrc }) => ({
        destination: dst,
        interface: dev,
        ...(gateway ? { gateway } : {}),
        ...(prefsrc ? { source: prefsrc } : {}),
      })),
    neighbours: seen.neighbours
      .filter(({ dev, lladdr, state }) => names.has(dev) && lladdr && !state.includes('FAILED'))
      .map(({ dst, dev, lladdr = '' }) => ({ address: dst, mac: lladdr, interface: dev })),
  };
}

/** Addresses of a network identity without prefix length. */
export function bareAddresses(network: NetworkIdentity): string[] {
  return network.interfaces.flatMap(({ addresses }) =>
    addresses.map((address) => address.split('/')[0] ?? ''),
  );
}

/** What this kernel has of the settings; it may be older or newer than the sink's. */
function readSettings(device: string): Record<string, string> {
  const settings: Record<string, string> = {};
  for (const setting of NETWORK_SETTINGS) {
    try {
      settings[setting] = readFileSync(settingPath(setting, device), 'latin1').trim();
    } catch {
      // this kernel does not know it
    }
  }
  return settings;
}

export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

function isOurs(dev: string | undefined, names: ReadonlySet<string>): boolean {
  return dev !== undefined && names.has(dev);
}
