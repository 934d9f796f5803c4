/** What a host swaps to: files, partitions, compressed memory (zram), and whether zswap is in front of them. */
import type { HostTransport } from '../host/transport.ts';
import { textOrNull } from './stalls.ts';

export interface SwapDevice {
  path: string;
  kind: 'file' | 'partition' | 'zram';
  sizeBytes: number;
  usedBytes: number;
  priority: number;
  /** zram: the compression in use. */
  compression?: string;
}

export interface SwapMedium {
  devices: SwapDevice[];
  /** The compressor of the pool in memory that pages go to first; null when there is none. */
  zswap: string | null;
  sizeBytes: number;
  freeBytes: number;
}

export async function readSwapMedium(host: HostTransport): Promise<SwapMedium> {
  const [swaps, enabled, compressor] = await Promise.all([
    host.readFile('/proc/swaps'),
    textOrNull(host, '/sys/module/zswap/parameters/enabled'),
    textOrNull(host, '/sys/module/zswap/parameters/compressor'),
  ]);
  const devices = await Promise.all(
    parseSwaps(swaps).map(async (device) => {
      if (device.kind !== 'zram') return device;
      const algorithms = await textOrNull(
        host,
        `/sys/block/${device.path.slice('/dev/'.length)}/comp_algorithm`,
      );
      const compression = /\[(.+)\]/.exec(algorithms ?? '')?.[1];
      return compression ? { ...device, compression } : device;
    }),
  );
  const sum = (of: (device: SwapDevice) => number) => devices.reduce((all, device) => all + of(device), 0);
  return {
    devices,
    zswap: enabled?.trim() === 'Y' ? (compressor?.trim() ?? '') : null,
    sizeBytes: sum(({ sizeBytes }) => sizeBytes),
    freeBytes: sum(({ sizeBytes, usedBytes }) => sizeBytes - usedBytes),
  };
}

/** /proc/swaps; spaces in a name are written `\040`. */
export function parseSwaps(text: string): SwapDevice[] {
  return text
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [name, type, size, used, priority] = line.trim().split(/\s+/);
      if (!name || !size || !used) return [];
      const path = name.replace(/\\(\d{3})/g, (_all, octal) =>
        String.fromCharCode(Number.parseInt(octal, 8)),
      );
      const kind = path.startsWith('/dev/zram') ? 'zram' : type === 'partition' ? 'partition' : 'file';
      return [
        {
          ...{ path, kind, priority: Number(priority) },
          ...{ sizeBytes: Number(size) * 1024, usedBytes: Number(used) * 1024 },
        } as const,
      ];
    });
}

/** In words, for a person: `file /swap (2048 MiB, 12 used) behind zswap (lzo)`. */
export function describeSwap({ devices, zswap }: SwapMedium): string {
  if (devices.length === 0) return 'none';
  const mib = (bytes: number) => Math.round(bytes / 2 ** 20);
  const each = devices.map(
    ({ kind, path, sizeBytes, usedBytes, compression }) =>
      `${kind} ${path} (${compression ? `${compression}, ` : ''}${mib(sizeBytes)} MiB, ${mib(usedBytes)} used)`,
  );
  return each.join(', ') + (zswap === null ? '' : ` behind zswap (${zswap})`);
}
