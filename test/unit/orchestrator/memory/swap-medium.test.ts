import { expect, test } from 'vitest';
import { localHost } from '../../../../orchestrator/host/local.ts';
import { describeSwap, parseSwaps, readSwapMedium } from '../../../../orchestrator/memory/swap-medium.ts';

const SWAPS = `Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/var/my\\040swap                          file\t\t2097148\t\t48\t\t-2
/dev/sda2                               partition\t1048572\t\t0\t\t-3
/dev/zram0                              partition\t524284\t\t1024\t\t100
`;

test('each kind of swap is told apart', () => {
  expect(parseSwaps(SWAPS)).toMatchObject([
    { path: '/var/my swap', kind: 'file', sizeBytes: 2097148 * 1024, usedBytes: 48 * 1024, priority: -2 },
    { path: '/dev/sda2', kind: 'partition' },
    { path: '/dev/zram0', kind: 'zram', priority: 100 },
  ]);
});

test('a host without swap has none', () => {
  expect(parseSwaps('Filename\tType\tSize\tUsed\tPriority\n')).toEqual([]);
  expect(describeSwap({ devices: [], zswap: null, sizeBytes: 0, freeBytes: 0 })).toBe('none');
});

test('in words it says what, how much, and what is in front of it', () => {
  const devices = parseSwaps(SWAPS).slice(2);
  const medium = { devices, zswap: 'lzo', sizeBytes: 0, freeBytes: 0 };
  expect(describeSwap(medium)).toBe('zram /dev/zram0 (512 MiB, 1 used) behind zswap (lzo)');
});

test('this machine’s own is read', async () => {
  const { devices, sizeBytes, freeBytes } = await readSwapMedium(localHost());
  expect(freeBytes).toBeLessThanOrEqual(sizeBytes);
  expect(devices.length > 0).toBe(sizeBytes > 0);
});
