import { describe, expect, test } from 'vitest';
import {
  ledgerOf,
  mayWake,
  parseMeminfo,
  type VmMemory,
  wakeBytes,
  whyNotToSwap,
} from '../../../../orchestrator/memory/ledger.ts';

const MiB = 1024 * 1024;
const swap = (sizeMiB: number, freeMiB: number) => ({
  devices: [],
  zswap: null,
  sizeBytes: sizeMiB * MiB,
  freeBytes: freeMiB * MiB,
});
const vm = (name: string, over: Partial<VmMemory> = {}): VmMemory => ({
  ...{ vm: name, committedBytes: 0, residentBytes: 0, swappedBytes: 0, freedBytes: 0 },
  ...over,
});

describe('a park to swap', () => {
  const need = { vm: 'vm1', host: 'hv', stalledPercent: 0 };

  test.each([
    ['fits', swap(1000, 1000), 900, true],
    ['would take the tenth that is kept free', swap(1000, 1000), 901, false],
    ['meets swap that is nearly full', swap(1000, 120), 100, false],
    ['has no swap to fill', swap(0, 0), 5000, true],
  ])('that %s', (_what, medium, toSwapMiB, isAllowed) => {
    const why = whyNotToSwap({ ...need, swap: medium, toSwapBytes: toSwapMiB * MiB });
    expect(why === null).toBe(isAllowed);
  });

  test('is refused with what was needed, what is there and what to do', () => {
    const why = whyNotToSwap({ ...need, swap: swap(1000, 150), toSwapBytes: 400 * MiB });
    expect(why).toContain('400 MiB of vm1 in the swap of hv, got 50 MiB');
    expect(why).toContain('add swap');
  });

  test('is refused on a host that is thrashing already', () => {
    const thrashing = { ...need, swap: swap(1000, 1000), toSwapBytes: 0, stalledPercent: 80 };
    expect(whyNotToSwap(thrashing)).toContain('80 %');
    expect(whyNotToSwap({ ...thrashing, stalledPercent: null })).toBeNull();
  });
});

test('a wake needs what it reads back soon, never more than is in swap', () => {
  expect(wakeBytes({ swappedBytes: 10 * MiB })).toBe(10 * MiB);
  expect(wakeBytes({ swappedBytes: 9000 * MiB })).toBe(256 * MiB);
});

test('a wake leaves a reserve, beside what those under way have still to take', () => {
  const host = { totalBytes: 8192 * MiB, availableBytes: 900 * MiB };
  expect(mayWake(host, 0, 256 * MiB)).toBe(true);
  expect(mayWake(host, 256 * MiB, 256 * MiB)).toBe(false);
});

test('the ledger adds up what its VMs have', () => {
  const host = { host: 'hv', totalBytes: 1, availableBytes: 1, swap: swap(1, 1), stalledPercent: null };
  const ledger = ledgerOf({ ...host, waiting: [] }, [
    vm('vm1', { committedBytes: 1024, residentBytes: 100, swappedBytes: 600, freedBytes: 900 }),
    vm('vm2', { committedBytes: 2048, residentBytes: 2000 }),
  ]);
  expect(ledger).toMatchObject({
    committedBytes: 3072,
    residentBytes: 2100,
    swappedBytes: 600,
    freedBytes: 900,
  });
});

test('meminfo is read in bytes', () => {
  const text = 'MemTotal:       24682180 kB\nMemFree: 1 kB\nMemAvailable:   23596032 kB\n';
  expect(parseMeminfo(text)).toEqual({ totalBytes: 24682180 * 1024, availableBytes: 23596032 * 1024 });
});
