/**
 * What a restored TCP connection may send at once. CRIU connects a socket before it tells the kernel what segments the client takes; the kernel
 * settles for the least that anybody takes (536 bytes, 1220 for IPv6) and thinks again only when the MTU changes. So it does: it is one
 * byte less while sockets are restored.
 */
import type { NetworkInterface } from './manifest.ts';

/** Below it IPv6 would be switched off. */
const IPV6_LEAST = 1280;

/** @param setMtu of the interface, where the sockets are restored */
export async function withLesserMtu(
  device: NetworkInterface | undefined,
  setMtu: (device: string, mtu: number) => Promise<void>,
  restoreSockets: () => Promise<void>,
): Promise<void> {
  if (!device || device.mtu <= IPV6_LEAST) return restoreSockets();
  await setMtu(device.name, device.mtu - 1);
  try {
    await restoreSockets();
  } finally {
    await setMtu(device.name, device.mtu);
  }
}
