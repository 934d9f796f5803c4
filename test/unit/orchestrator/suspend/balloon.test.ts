import { expect, test } from 'vitest';
import { silentLog } from '../../../../common/log.ts';
import {
  type BalloonDeps,
  deflateBalloon,
  deflateGently,
  inflateBalloon,
  nextSize,
  relievedSize,
  spareBytes,
} from '../../../../orchestrator/suspend/balloon.ts';
import { switchOffFor } from '../../../../orchestrator/suspend/methods.ts';

const MiB = 1024 * 1024;
const never = new AbortController().signal;

const guestMemory = (availableMiB: number, hotCacheMiB = 0) => ({
  availableBytes: availableMiB * MiB,
  hotCacheBytes: hotCacheMiB * MiB,
});

test('the balloon takes what the guest can spare, in steps, and leaves a margin', () => {
  expect(nextSize(2048 * MiB, guestMemory(1500))).toBe((2048 - 256) * MiB);
  expect(nextSize(1000 * MiB, guestMemory(100))).toBe(980 * MiB);
  expect(nextSize(1000 * MiB, guestMemory(84))).toBeNull();
  expect(nextSize(1000 * MiB, guestMemory(0))).toBeNull();
});

test('the page cache in use stays in the guest, but not without bound', () => {
  expect(nextSize(1000 * MiB, guestMemory(280, 100))).toBe(900 * MiB);
  expect(nextSize(1000 * MiB, guestMemory(170, 90))).toBeNull();
  expect(spareBytes(guestMemory(2000, 1500))).toBe((2000 - 256 - 80) * MiB);
});

test('a guest that has become short gets back what it lacks', () => {
  expect(relievedSize(1000 * MiB, 100 * MiB)).toBeNull();
  expect(relievedSize(1000 * MiB, 20 * MiB)).toBe(1060 * MiB);
});

/** A guest of 1 GiB whose programs use `usedMiB()`; its balloon moves 32 MiB each time it is looked at. */
function guest(usedMiB: (looks: number) => number) {
  let target = 1024;
  let actual = 1024;
  let looks = 0;
  let least = Number.POSITIVE_INFINITY;
  const available = () => Math.max(0, actual - usedMiB(looks));
  const execute = async (command: string, args?: { value: number }) => {
    if (command === 'balloon') target = (args?.value ?? 0) / MiB;
    else {
      looks += 1;
      actual += Math.sign(target - actual) * Math.min(32, Math.abs(target - actual));
      least = Math.min(least, available());
    }
    return { actual: actual * MiB };
  };
  const call = async () => ({ availableBytes: available() * MiB, hotCacheBytes: 0, totalBytes: 0 });
  const deps = { qmp: { execute }, vmAgent: { call }, log: silentLog } as unknown as BalloonDeps;
  return { deps, least: () => least, size: () => actual, target: () => target };
}

test('an idle guest is left with its margin, and no less', async () => {
  const idle = guest(() => 300);
  const taken = await inflateBalloon(idle.deps, never);
  expect(taken).toBeGreaterThan(600 * MiB);
  expect(idle.least()).toBeGreaterThanOrEqual(80);
});

test('a guest whose programs grow meanwhile is never left without memory', async () => {
  const busy = guest((looks) => 300 + Math.min(400, looks * 20));
  await inflateBalloon(busy.deps, never);
  expect(busy.least()).toBeGreaterThan(0);
  expect(busy.target()).toBeGreaterThanOrEqual(busy.size() - 1);
});

test('a policy’s word comes before the configuration’s, and disk needs to be configured', () => {
  const disk = { suspendToDisk: { folder: '/x', start: ['qemu'] } };
  expect(switchOffFor({}, {})).toBe('swap');
  expect(switchOffFor({ switchOff: 'ram' }, {})).toBe('ram');
  expect(switchOffFor({ switchOff: 'ram' }, disk, 'disk')).toBe('disk');
  expect(switchOffFor({ switchOff: 'ram' }, {}, 'disk')).toBe('swap');
});

/** A balloon of `sizeMiB` in a VM of 4 GiB, and the sizes that it was told. */
function balloon(sizeMiB: number) {
  const told: number[] = [];
  const execute = async (command: string, args?: { value: number }) => {
    if (command === 'balloon') told.push((args?.value ?? 0) / MiB);
    return { actual: told.length > 0 ? (told.at(-1) ?? 0) * MiB : sizeMiB * MiB, 'base-memory': 4096 * MiB };
  };
  return { qmp: { execute } as unknown as BalloonDeps['qmp'], told };
}

test('a wake gives the guest what it needs at once, and never more than there is', async () => {
  const some = balloon(1024);
  await deflateBalloon(some.qmp, 30 * MiB);
  expect(some.told).toEqual([1054]);
  const nearly = balloon(4090);
  await deflateBalloon(nearly.qmp, 30 * MiB);
  expect(nearly.told).toEqual([4096]);
});

test('the rest comes back in growing pieces, and all of it', async () => {
  const { qmp, told } = balloon(1024);
  await deflateGently(qmp);
  expect(told).toEqual([1056, 1120, 1248, 1504, 4096]);
});
