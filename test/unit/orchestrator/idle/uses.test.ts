import { describe, expect, test } from 'vitest';
import { random } from '../../../../orchestrator/idle/simulate/random.ts';
import { Uses } from '../../../../orchestrator/idle/uses.ts';
import { DAY, HOUR, MINUTE, START } from './histories.ts';

function usedAt(times: readonly number[], until: number, lengthMs = 20 * MINUTE): Uses {
  const uses = new Uses();
  uses.skipTo(START);
  for (const at of times) uses.note(at, at + lengthMs);
  uses.advance(until);
  return uses;
}
const MONDAY_9 = START + 9 * HOUR + 15 * MINUTE;

describe('what is expected', () => {
  test('is nothing, with little confidence, before anything has been seen', () => {
    const { nextUse, confidence, quiet } = new Uses().forecast(START, 0.7);
    expect({ nextUse, quiet }).toEqual({ nextUse: null, quiet: false });
    expect(confidence).toBe(0.5);
  });

  test('is nothing, with growing confidence, of a VM that nobody uses', () => {
    const confidences = [1, 2, 7, 21].map(
      (days) => usedAt([], START + days * DAY).forecast(START + days * DAY, 0.7).confidence,
    );
    expect(confidences.toSorted((a, b) => a - b)).toEqual(confidences);
    expect(confidences.at(-1)).toBeGreaterThan(0.95);
  });

  test('is the next day’s use after a few days, and the next workday’s after Friday', () => {
    const days = [0, 1, 2, 3, 4].map((day) => MONDAY_9 + day * DAY);
    const uses = usedAt(days, START + 4.5 * DAY);
    expect(uses.forecast(START + 4.5 * DAY, 0.7)).toMatchObject({
      nextUse: MONDAY_9 + 7 * DAY,
      begins: true,
    });
  });

  test('is a weekly use after three weeks, and is forgotten when it is given up', () => {
    const weekly = (weeks: number) => Array.from({ length: weeks }, (_, week) => MONDAY_9 + week * 7 * DAY);
    expect(usedAt(weekly(1), START + 3 * DAY).forecast(START + 3 * DAY, 0.7).nextUse).toBeNull();
    const learned = usedAt(weekly(4), START + 24 * DAY);
    expect(learned.forecast(START + 24 * DAY, 0.7).nextUse).toBe(MONDAY_9 + 28 * DAY);
    learned.advance(START + 60 * DAY);
    expect(learned.forecast(START + 60 * DAY, 0.7).nextUse).toBeNull();
  });

  test('is early enough for the earliest of the last weeks', () => {
    const rng = random(6);
    const times = Array.from({ length: 28 }, (_, day) => day)
      .filter((day) => day % 7 < 5)
      .map((day) => START + day * DAY + 9 * HOUR + rng.between(10, 25) * MINUTE);
    const { nextUse } = usedAt(times, START + 28 * DAY).forecast(START + 28 * DAY, 0.7);
    const offset = ((nextUse as number) - START) % DAY;
    expect(offset).toBeGreaterThanOrEqual(9 * HOUR + 10 * MINUTE);
    expect(offset).toBeLessThan(9 * HOUR + 18 * MINUTE);
  });

  test('begins nothing where use comes at any time of the hour, or by and by', () => {
    const rng = random(7);
    const times: number[] = [];
    for (let day = 0; day < 28; day++) {
      for (let hour = 6; hour < 20; hour++) {
        if (rng.chance(Math.min(1, (hour - 5) / 5)))
          times.push(START + day * DAY + hour * HOUR + rng.between(0, 40) * MINUTE);
      }
    }
    const { begins, nextUse } = usedAt(times, START + 28 * DAY, MINUTE).forecast(START + 28 * DAY, 0.7);
    expect(nextUse).not.toBeNull();
    expect(begins).toBe(false);
  });
});

test('chances are between 0 and 1, and a forecast is never in the past, whatever was seen', () => {
  const rng = random(8);
  for (let round = 0; round < 60; round++) {
    const uses = new Uses();
    let at = START + rng.between(-10, 10) * DAY;
    uses.skipTo(at);
    for (let i = 0; i < 150; i++) {
      at += rng.wait(5 * HOUR);
      if (rng.chance(0.02)) uses.skipTo((at += rng.between(0, 90) * DAY));
      uses.note(at, at + rng.wait(HOUR));
      const now = at + rng.wait(HOUR);
      const { nextUse, confidence } = uses.forecast(now, 0.7);
      expect(confidence).toBeGreaterThanOrEqual(0);
      expect(confidence).toBeLessThanOrEqual(1);
      if (nextUse !== null) expect(nextUse).toBeGreaterThanOrEqual(now);
      if (nextUse !== null) expect(nextUse).toBeLessThanOrEqual(now + 8 * DAY);
    }
    for (let slot = 0; slot < 168; slot++) {
      expect(uses.chance(slot)).toBeGreaterThan(0);
      expect(uses.chance(slot)).toBeLessThanOrEqual(1);
    }
  }
});

test('what was learned survives a restart, and a damaged record is none', () => {
  const days = Array.from({ length: 12 }, (_, day) => MONDAY_9 + day * DAY);
  const uses = usedAt(days, START + 12 * DAY);
  const record = JSON.parse(JSON.stringify(uses.toRecord())) as Record<string, unknown>;
  expect(Uses.fromRecord(record)?.forecast(START + 12 * DAY, 0.7)).toEqual(
    uses.forecast(START + 12 * DAY, 0.7),
  );
  const { used } = uses.toRecord();
  for (const wrong of [
    null,
    7,
    {},
    { ...record, used: [] },
    { ...record, seen: used.map(() => -1) },
    { ...record, seen: used.map(() => 0) },
  ]) {
    expect(Uses.fromRecord(wrong)).toBeNull();
  }
});
