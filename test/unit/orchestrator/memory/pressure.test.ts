import { expect, test } from 'vitest';
import { nextSpeed } from '../../../../orchestrator/memory/pace.ts';
import {
  directReclaims,
  fullPercent,
  stalledShare,
  stalledUs,
} from '../../../../orchestrator/memory/stalls.ts';

const PRESSURE = `some avg10=1.50 avg60=0.32 avg300=0.06 total=2519203
full avg10=0.75 avg60=0.30 avg300=0.05 total=1901112
`;
const MiB = 1024 * 1024;

test('pressure is read as the time that somebody waited, and the share that all did', () => {
  expect(stalledUs(PRESSURE)).toBe(2519203);
  expect(fullPercent(PRESSURE)).toBe(0.75);
  expect(stalledUs('')).toBeNull();
});

test('of memory and disk the worse counts', () => {
  const before = { memoryUs: 1000, ioUs: 1000, allocations: 0 };
  expect(stalledShare(before, { ...before, memoryUs: 3000, ioUs: 6000 }, 10)).toBe(0.5);
  expect(stalledShare(before, before, 10)).toBe(0);
});

test('without pressure information an allocation that had to reclaim is a stall', () => {
  const vmstat = 'pgfault 12\nallocstall_dma32 1\nallocstall_normal 2\nallocstall_movable 4\n';
  expect(directReclaims(vmstat)).toBe(7);
  const before = { memoryUs: null, ioUs: null, allocations: 7 };
  expect(stalledShare(before, { ...before, allocations: 8 }, 10)).toBe(1);
  expect(stalledShare(before, before, 10)).toBe(0);
});

test('what others waited for before the first stroke is not our doing', () => {
  const speed = { strokeBytes: 48 * MiB, restMs: 4 };
  expect(nextSpeed(speed, 0.6, 0.55)).toEqual(speed);
  expect(nextSpeed(speed, 0.6, 0.3).restMs).toBe(8);
});

test('stalls of others halve the strokes and double the rests; their absence gives speed back step by step', () => {
  let speed = { strokeBytes: 48 * MiB, restMs: 4 };
  speed = nextSpeed(speed, 0.5);
  expect(speed).toEqual({ strokeBytes: 24 * MiB, restMs: 8 });
  for (let i = 0; i < 10; i++) speed = nextSpeed(speed, 1);
  expect(speed).toEqual({ strokeBytes: 4 * MiB, restMs: 100 });
  speed = nextSpeed(speed, 0);
  expect(speed).toEqual({ strokeBytes: 8 * MiB, restMs: 50 });
  for (let i = 0; i < 20; i++) speed = nextSpeed(speed, 0);
  expect(speed).toEqual({ strokeBytes: 48 * MiB, restMs: 4 });
});
