/**
 * Where a VM's tap is plugged: its Linux bridge, and that bridge's other port, which leads to the integration bridge.
 * Asked of the host rather than configured: whoever plugged the VM (OpenStack's hybrid plug, the lab) chose the names.
 */
import { SeamlessError } from '../../common/errors.ts';
import type { HostTransport } from '../host/transport.ts';

export interface TapPlace {
  bridge: string;
  uplink: string;
  /** Number of the VM's NFQUEUE: the tap's interface index, unique on the host and the same as long as the tap lives. */
  queue: number;
}

interface Link {
  ifindex: number;
  ifname: string;
  master?: string;
}

export async function findTapPlace(host: HostTransport, tap: string): Promise<TapPlace> {
  const links = async (...filter: string[]): Promise<Link[]> =>
    JSON.parse((await host.run(['ip', '-json', 'link', 'show', ...filter])).stdout || '[]');
  const [own] = await links('dev', tap);
  const bridge = own?.master;
  if (!own || !bridge) throw expected(host, `${tap} to be a port of a Linux bridge`, 'it alone');
  const others = (await links('master', bridge)).filter(({ ifname }) => ifname !== tap);
  const [uplink] = others;
  if (!uplink || others.length > 1) {
    throw expected(
      host,
      `one port of ${bridge} beside ${tap}`,
      others.map(({ ifname }) => ifname).join(', ') || 'none',
    );
  }
  return { bridge, uplink: uplink.ifname, queue: own.ifindex };
}

function expected(host: HostTransport, wanted: string, got: string): SeamlessError {
  return new SeamlessError('HOST_UNREACHABLE', `Expected ${wanted} on ${host.name}, got ${got}`);
}
