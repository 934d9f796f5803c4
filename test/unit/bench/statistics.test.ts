import { expect, test } from 'vitest';
import { median, percentile, summary } from '../../../bench/evaluation/statistics.ts';

test('the median of an even number lies between the middle two, whatever the order', () => {
  expect(median([4, 1, 3, 2])).toBe(2.5);
});

test('a percentile lies between its neighbours', () => {
  expect(percentile([10, 20, 30], 95)).toBeCloseTo(29);
  expect(percentile([7], 95)).toBe(7);
});

test('a summary of nothing says so', () => {
  expect(summary([])).toEqual({ median: Number.NaN, min: Number.NaN, max: Number.NaN, runs: 0 });
});

test('a summary counts its runs and rounds to a tenth', () => {
  expect(summary([1.234, 5.678])).toEqual({ median: 3.5, min: 1.2, max: 5.7, runs: 2 });
});
