import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readCsv } from '../../../../orchestrator/idle/simulate/csv.ts';
import { generateVm, KINDS } from '../../../../orchestrator/idle/simulate/generate.ts';
import { oracle } from '../../../../orchestrator/idle/simulate/oracle.ts';
import { USUAL } from '../../../../orchestrator/idle/simulate/policies.ts';
import { random } from '../../../../orchestrator/idle/simulate/random.ts';
import { MODEL, replay } from '../../../../orchestrator/idle/simulate/replay.ts';
import { markdownTable } from '../../../../orchestrator/idle/simulate/report.ts';
import { simulate } from '../../../../orchestrator/idle/simulate/simulate.ts';
import {
  type Activity,
  flatten,
  meters,
  type Stretch,
  type VmTrace,
} from '../../../../orchestrator/idle/simulate/trace.ts';
import { DAY, HOUR, MINUTE, POLICY, SECOND, START } from './histories.ts';

const USE = meters({ network: 10_000, cpu: 20, load: 10 });
const JOB = meters({ cpu: 60, load: 90 });
const WINDOW = POLICY.windowMs;

function trace(stretches: Partial<Stretch>[], more: Partial<VmTrace> = {}): VmTrace {
  return {
    name: 'vm',
    memoryMiB: 1024 / MODEL.freedShare,
    fromMs: START,
    toMs: START + DAY,
    stretches: stretches.map((each) => ({
      fromMs: 0,
      toMs: 0,
      values: USE,
      requests: 0,
      busy: true,
      ...each,
    })),
    probes: [],
    timers: [],
    ...more,
  };
}

describe('one VM', () => {
  test('that nobody uses is parked after the window and stays so', () => {
    const outcome = replay(trace([]), POLICY);
    expect(outcome).toMatchObject({ possibleGiBHours: 24, wakes: 0, delaySeconds: 0, parkedWhileBusy: 0 });
    expect(outcome.savedGiBHours).toBeCloseTo(24 - (WINDOW + MODEL.parkMs) / HOUR, 6);
  });

  test('is woken by a request, which waits; the grace then keeps it awake', () => {
    const from = START + 6 * HOUR;
    const outcome = replay(trace([{ fromMs: from, toMs: from + MINUTE, requests: 120 }]), POLICY);
    // Two requests come in the second of the wake: at its beginning and in its middle.
    expect(outcome).toMatchObject({ wakes: 1, falseWakes: 0, delaySeconds: 1.5, thrash: 0 });
    expect(outcome.savedGiBHours).toBeCloseTo(24 - (WINDOW + 2 * WINDOW + 2 * MODEL.parkMs) / HOUR, 6);
  });

  test('that is woken by a scan was woken for nothing, unless the sink accepts connections', () => {
    const scanned = trace([], { probes: [START + 6 * HOUR] });
    expect(replay(scanned, POLICY)).toMatchObject({ wakes: 1, falseWakes: 1, delaySeconds: 0 });
    expect(replay(scanned, { ...POLICY, syn: { 'tcp/22': 'accept' } })).toMatchObject({ wakes: 0 });
  });

  test('does its timer’s work, because it is awake by then; or not, when the policy says so', () => {
    const at = START + 6 * HOUR;
    const timed = trace([{ fromMs: at, toMs: at + MINUTE, values: JOB }], {
      timers: [{ name: 'a.timer', atMs: at }],
    });
    expect(replay(timed, POLICY)).toMatchObject({ wakes: 1, falseWakes: 0, parkedWhileBusy: 0 });
    expect(replay(timed, { ...POLICY, timers: [{ pattern: '*', action: 'ignore' }] })).toMatchObject({
      wakes: 0,
    });
  });

  test('takes a park back when a request comes while it parks', () => {
    const from = START + WINDOW + 5 * SECOND;
    const outcome = replay(trace([{ fromMs: from, toMs: from + 30 * SECOND, requests: 1 }]), POLICY);
    expect(outcome).toMatchObject({ wakes: 0, thrash: 1, delaySeconds: MODEL.abortMs / 1000 });
  });

  test('that a reckless policy parks in the midst of work is counted', () => {
    const work = trace([{ fromMs: START + HOUR, toMs: START + 5 * HOUR, values: JOB }]);
    expect(replay(work, POLICY).parkedWhileBusy).toBe(0);
    const thresholds = { ...POLICY.thresholds, cpu: 100, load: 10_000 };
    // It is parked before the work begins, which then never does; so it begins early.
    const early = { ...work, stretches: work.stretches.map((each) => ({ ...each, fromMs: START })) };
    expect(replay(early, { ...POLICY, thresholds }).parkedWhileBusy).toBe(1);
  });

  test('of which the trace does not know everything is not parked in that time', () => {
    const unknown = meters({ cpu: Number.NaN });
    const outcome = replay(
      trace([{ fromMs: START, toMs: START + DAY, values: unknown, busy: false }]),
      POLICY,
    );
    expect(outcome).toMatchObject({ savedGiBHours: 0, wakes: 0 });
  });
});

test('overlapping activities add up, and no request is lost', () => {
  const rng = random(21);
  for (let round = 0; round < 200; round++) {
    const activities: Activity[] = Array.from({ length: 12 }, () => {
      const fromMs = Math.floor(rng.between(0, 1000));
      const toMs = fromMs + 1 + Math.floor(rng.between(0, 300));
      const requests = rng.chance(0.5) ? Math.floor(rng.between(1, 9)) : 0;
      return { fromMs, toMs, values: meters({ disk: 1 }), requests, busy: rng.chance(0.5) };
    });
    const stretches = flatten(activities);
    const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
    expect(sum(stretches.map(({ requests }) => requests))).toBe(
      sum(activities.map(({ requests }) => requests)),
    );
    for (let index = 1; index < stretches.length; index++) {
      expect((stretches[index] as Stretch).fromMs).toBeGreaterThanOrEqual(
        (stretches[index - 1] as Stretch).toMs,
      );
    }
    for (let at = 0.5; at < 1300; at += 50) {
      const active = activities.filter(({ fromMs, toMs }) => fromMs <= at && at < toMs);
      const here = stretches.find(({ fromMs, toMs }) => fromMs <= at && at < toMs);
      expect(here?.values[2] ?? 0).toBe(active.length);
      expect(here?.busy ?? false).toBe(active.some(({ busy }) => busy));
    }
  }
});

test('a seed always gives the same trace, and all kinds of VMs', () => {
  expect(generateVm(5, 17, 10)).toEqual(generateVm(5, 17, 10));
  expect(generateVm(5, 17, 10)).not.toEqual(generateVm(6, 17, 10));
  const kinds = new Set(
    Array.from({ length: 200 }, (_, index) => generateVm(5, index, 1).name.split('-')[0]),
  );
  expect([...kinds].sort()).toEqual(Object.keys(KINDS).sort());
});

test('no policy saves more than the one that knows what comes', () => {
  for (let index = 0; index < 40; index++) {
    const vm = generateVm(8, index, 14);
    const most = oracle(vm).savedGiBHours;
    for (const forecast of ['ignore', 'use', 'wake'] as const) {
      const { savedGiBHours, possibleGiBHours } = replay(vm, { ...POLICY, forecast });
      expect(savedGiBHours).toBeLessThanOrEqual(most + 0.05 * possibleGiBHours);
      expect(savedGiBHours).toBeLessThanOrEqual(possibleGiBHours);
    }
  }
});

test.each([1, 2, 3])(
  'the histogram saves more than the fixed window at no more delay, and parks nothing that is busy: seed %d',
  { timeout: 120_000 },
  async (seed) => {
    const { policies, vms, days } = await simulate({
      source: { vms: 120, days: 21, seed },
      contenders: USUAL,
    });
    expect({ vms, days }).toEqual({ vms: 120, days: 21 });
    const [fixed, histogram, best] = policies;
    expect(policies.map(({ name }) => name)).toEqual(['fixed', 'histogram', 'oracle']);
    expect(histogram?.savedGiBHours).toBeGreaterThan(fixed?.savedGiBHours ?? Number.NaN);
    expect(histogram?.delaySeconds).toBeLessThanOrEqual(fixed?.delaySeconds ?? Number.NaN);
    expect(policies.map(({ parkedWhileBusy }) => parkedWhileBusy)).toEqual([0, 0, 0]);
    expect(best?.savedGiBHours).toBeGreaterThan(histogram?.savedGiBHours ?? Number.NaN);
  },
);

test('and so on the shipped trace', { timeout: 60_000 }, async () => {
  const traces = await readCsv(join(import.meta.dirname, '../../../../bench/traces/mixed.csv'));
  const report = await simulate({ source: { traces }, contenders: USUAL });
  const { policies, vms, days } = report;
  const [fixed, histogram] = policies;
  expect({ vms, days }).toEqual({ vms: 10, days: 21 });
  expect(histogram?.savedGiBHours).toBeGreaterThan(fixed?.savedGiBHours ?? Number.NaN);
  expect(histogram?.delaySeconds).toBeLessThanOrEqual(fixed?.delaySeconds ?? Number.NaN);
  expect(policies.map(({ parkedWhileBusy }) => parkedWhileBusy)).toEqual([0, 0, 0]);
  // Else run scripts/simulation-table.
  const page = readFileSync(join(import.meta.dirname, '../../../../docs/simulation.md'), 'utf8');
  expect(page).toContain(markdownTable(report));
});

test('the result does not depend on the number of threads', { timeout: 60_000 }, async () => {
  const run = async (threads: number) =>
    (await simulate({ source: { vms: 60, days: 7, seed: 4 }, contenders: USUAL, threads })).policies;
  expect(await run(1)).toEqual(await run(3));
});
