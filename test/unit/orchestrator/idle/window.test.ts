import { expect, test } from 'vitest';
import { Runs } from '../../../../orchestrator/idle/runs.ts';
import { METERS } from '../../../../orchestrator/idle/signals.ts';
import { random } from '../../../../orchestrator/idle/simulate/random.ts';
import { judgeLevel, judgeTrace } from '../../../../orchestrator/idle/window.ts';

const SECOND = 1000;
const WINDOW = 600 * SECOND;
const values = (value: number) => METERS.map(() => value);

test('judgements over the compact runs are those over each single second', () => {
  const rng = random(11);
  for (let round = 0; round < 300; round++) {
    const runs = new Runs();
    const seconds: number[] = [];
    while (seconds.length < 900) {
      const length = Math.ceil(rng.between(1, 60));
      const value = rng.chance(0.03) ? Number.NaN : Math.floor(rng.next() ** 6 * 20);
      const start = seconds.length * SECOND;
      runs.push(start, start + length * SECOND, values(value), WINDOW * 1.5);
      for (let i = 0; i < length; i++) seconds.push(value);
    }
    const now = seconds.length * SECOND;
    const window = seconds.slice(-WINDOW / SECOND);
    const above = window.filter((value) => value > 5).length;
    const isUnknown = window.some(Number.isNaN);
    const recentAbove = window.slice(-30).some((value) => value > 5);
    const expected = (busy: boolean) => (busy ? 'busy' : isUnknown ? 'unknown' : 'quiet');
    expect(judgeTrace(runs, 0, 5, WINDOW, now).state).toBe(expected(above > 0));
    const level = judgeLevel(runs, 0, 5, WINDOW, 95, now);
    expect(level.state).toBe(expected(above > 30 || recentAbove));
    if (!isUnknown && !recentAbove) {
      const sorted = window.toSorted((a, b) => b - a);
      expect(level.value).toBe(sorted[30]);
    }
  }
});

test('a meter becomes quiet at the time that was foretold, and not before', () => {
  const rng = random(12);
  for (let round = 0; round < 300; round++) {
    const runs = new Runs();
    let at = 0;
    while (at < 900 * SECOND) {
      const length = Math.ceil(rng.between(1, 60)) * SECOND;
      runs.push(at, at + length, values(rng.chance(0.1) ? 9 : 1), WINDOW * 1.5);
      at += length;
    }
    for (const judge of [
      (now: number) => judgeTrace(runs, 0, 5, WINDOW, now),
      (now: number) => judgeLevel(runs, 0, 5, WINDOW, 95, now),
    ]) {
      const { state, quietAt } = judge(at);
      if (state === 'quiet') continue;
      expect(quietAt).toBeGreaterThan(at);
      const early = quietAt - 1;
      runs.push(at, early, values(1), WINDOW * 1.5);
      expect(judge(early).state).toBe('busy');
      runs.push(early, quietAt, values(1), WINDOW * 1.5);
      expect(judge(quietAt).state).toBe('quiet');
      at = quietAt;
    }
  }
});

test('what lies before the first sample, in a hole, or after a late one is not known', () => {
  const runs = new Runs();
  expect(judgeTrace(runs, 0, 5, WINDOW, 0)).toMatchObject({ state: 'unknown', value: null });
  runs.push(0, WINDOW - SECOND, values(1), WINDOW * 1.5);
  expect(judgeTrace(runs, 0, 5, WINDOW, WINDOW - SECOND).state).toBe('unknown');
  runs.push(WINDOW - SECOND, WINDOW, values(1), WINDOW * 1.5);
  expect(judgeTrace(runs, 0, 5, WINDOW, WINDOW).state).toBe('quiet');
  expect(judgeTrace(runs, 0, 5, WINDOW, WINDOW + 35 * SECOND).state).toBe('quiet');
  expect(judgeTrace(runs, 0, 5, WINDOW, WINDOW + 36 * SECOND).state).toBe('unknown');
  runs.push(WINDOW + 50 * SECOND, WINDOW + 60 * SECOND, values(1), WINDOW * 1.5);
  expect(judgeTrace(runs, 0, 5, WINDOW, WINDOW + 60 * SECOND).state).toBe('unknown');
});

test('a clock that is set back makes the past worthless', () => {
  const runs = new Runs();
  runs.push(0, 2 * WINDOW, values(1), WINDOW * 1.5);
  expect(judgeTrace(runs, 0, 5, WINDOW, WINDOW).state).toBe('unknown');
  runs.push(WINDOW, WINDOW + SECOND, values(1), WINDOW * 1.5);
  expect(judgeTrace(runs, 0, 5, WINDOW, WINDOW + SECOND).state).toBe('unknown');
  runs.push(WINDOW, WINDOW - SECOND, values(1), WINDOW * 1.5);
  expect(runs.length).toBe(0);
});

test('a year of samples takes no more room than its window, and merging never hides a peak', () => {
  const runs = new Runs();
  for (let i = 0; i < 20_000; i++) runs.push(i * SECOND, (i + 1) * SECOND, values(i % 7), WINDOW * 1.5);
  expect(runs.length).toBeLessThan(800);
  expect(judgeTrace(runs, 0, 5, WINDOW, 20_000 * SECOND)).toMatchObject({ state: 'busy', value: 6 });
});
