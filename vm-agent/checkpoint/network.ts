/** The VM's presence on the production network, as the sink shall take it on. One call of `ip` for all: each process costs. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { exec } from '../../common/exec.ts';
import type { NetworkIdentity } from '../../criu/manifest.ts';

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
  return networkIdentity(
    { links: links as Link[], routes: routes as Route[], neighbours: neighbours as Neighbour[] },
    managementAddress,
  );
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

export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

function isOurs(dev: string | undefined, names: ReadonlySet<string>): boolean {
  return dev !== undefined && names.has(dev);
}
