import { describe, expect, test } from 'vitest';
import { Collector } from '../../../../orchestrator/idle/collector.ts';
import { decide } from '../../../../orchestrator/idle/decide.ts';
import type { Sample } from '../../../../orchestrator/idle/history.ts';
import { interval, type Reading, readReport } from '../../../../orchestrator/idle/sample.ts';
import { METERS, type Meter } from '../../../../orchestrator/idle/signals.ts';
import { random } from '../../../../orchestrator/idle/simulate/random.ts';
import { MINUTE, POLICY, START } from './histories.ts';

const NO_DIRTY = { dirtyRate: 'none' };
const BOOT = '5f0c2d1e-0000-4000-8000-000000000001';

/** What an idle guest with two CPUs says, so many milliseconds after `START`. */
function guest(ms: number, changed: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    bootId: BOOT,
    epochMs: START + ms,
    uptimeMs: 1_000_000 + ms,
    cpus: 2,
    cpuBusyMs: 5000 + ms * 0.02,
    loadMs: 1000 + ms * 0.002,
    diskBytes: 1e6 + ms,
    dirtiedBytes: 1e6 + ms,
    sessions: [{ user: 'root', terminal: 'pts/0', idleMs: 3_600_000 + ms }],
    jobs: [],
    timers: [{ name: 'logrotate.timer', atMs: START + 86_400_000 }],
    lease: null,
    ...changed,
  };
}
const report = (
  ms: number,
  changed: Record<string, unknown> = {},
  network: unknown = { payloadBytes: 100 },
  hypervisor: unknown = NO_DIRTY,
): Reading => readReport(guest(ms, changed), network, hypervisor, START + ms, 7_000_000 + ms);
const value = (sample: Sample | null, meter: Meter) => sample?.values[METERS.indexOf(meter)];
const between = (changed: Record<string, unknown>, network?: unknown) =>
  interval(report(0), report(10_000, changed, network)) as Sample;
const allUnknown = (sample: Sample) => Array.from(sample.values).every(Number.isNaN);

test('two reports make one interval of rates', () => {
  const sample = interval(
    report(0, {}, { payloadBytes: 100 }),
    report(10_000, { sessions: [{ idleMs: 2000 }, { idleMs: 1e6 }], jobs: ['make'] }, { payloadBytes: 1100 }),
  );
  expect(sample).toMatchObject({ startMs: START, endMs: START + 10_000, leaseMs: 'none' });
  const got = Object.fromEntries(
    METERS.map((meter) => [meter, Math.round((value(sample, meter) as number) * 100) / 100]),
  );
  expect(got).toEqual({ cpu: 1, network: 100, disk: 1000, sessions: 1, jobs: 1, load: 0.2, dirty: 1000 });
});

test('the hypervisor sees all memory, the guest only what it writes to files', () => {
  const dirty = (hypervisor: unknown) =>
    value(interval(report(0), report(10_000, {}, undefined, hypervisor)), 'dirty');
  expect(dirty({ dirtyRate: 5_000_000 })).toBe(5_000_000);
  expect(dirty({ dirtyRate: 0 })).toBe(1000);
  // One that can't tell is no reason for doubt; one that could, and doesn't, is.
  expect(dirty({ dirtyRate: 'none' })).toBe(1000);
  for (const nothing of [null, {}, { dirtyRate: null }, { dirtyRate: -1 }, { dirtyRate: 1e30 }])
    expect(dirty(nothing)).toBeNaN();
});

test('a late report costs nothing, one that is much too late leaves a hole', () => {
  expect(value(interval(report(0), report(40_000)), 'cpu')).toBeCloseTo(1);
  expect(allUnknown(interval(report(0), report(61_000)) as Sample)).toBe(true);
});

test.each([
  ['cpuBusyMs', 'cpu'],
  ['loadMs', 'load'],
  ['diskBytes', 'disk'],
  ['dirtiedBytes', 'dirty'],
  ['jobs', 'jobs'],
  ['sessions', 'sessions'],
] as const)(
  '%s that is nonsense, negative, huge or missing is not known, and the rest is',
  (field, meter) => {
    for (const wrong of [
      -1,
      -1e300,
      1e300,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      '12',
      {},
      null,
      undefined,
      [null],
      [{ idleMs: -1 }],
    ]) {
      const sample = between({ [field]: wrong });
      expect(value(sample, meter), JSON.stringify(wrong)).toBeNaN();
      const others = METERS.filter((other) => other !== meter);
      expect(others.every((other) => Number.isFinite(value(sample, other)))).toBe(true);
    }
  },
);

test('more than a machine can do is not known', () => {
  expect(value(between({ cpuBusyMs: 5000 + 40_000 }), 'cpu')).toBeNaN();
  expect(value(between({ loadMs: 1000 + 40_000 }), 'load')).toBeNaN();
  expect(value(between({ diskBytes: 1e6 + 1e15 }), 'disk')).toBeNaN();
  expect(value(between({}, { payloadBytes: 9e15 }), 'network')).toBeNaN();
});

test.each([
  ['bytes of the switch', () => between({}, { payloadBytes: 99 }), 'network'],
  ['CPU time', () => between({ cpuBusyMs: 10 }), 'cpu'],
  ['bytes of the disk', () => between({ diskBytes: 0 }), 'disk'],
] as const)('a counter that went back is not known: %s', (_name, sample, meter) => {
  expect(value(sample(), meter)).toBeNaN();
});

describe('nothing is known of an interval in which', () => {
  test.each([
    ['the guest booted', { bootId: '5f0c2d1e-0000-4000-8000-000000000002' }],
    ['the guest does not say which boot it is', { bootId: 7 }],
    ['the guest’s clock jumped ahead', { epochMs: START + 3_600_000 }],
    ['the guest’s clock jumped back', { epochMs: START - 5000 }],
    ['the guest stood still', { epochMs: START + 1000, uptimeMs: 1_001_000 }],
    ['the guest has no clock', { uptimeMs: 'long' }],
  ])('%s', (_name, changed) => {
    expect(allUnknown(between(changed))).toBe(true);
  });

  test('our own clock jumped', () => {
    const jumped = { ...report(10_000), atMs: START + 3_610_000 };
    expect(allUnknown(interval(report(0), jumped) as Sample)).toBe(true);
  });

  test('the agent said nothing', () => {
    for (const nothing of [null, undefined, '', 'busy', 7, [], {}]) {
      const silent = readReport(nothing, nothing, nothing, START + 10_000, 7_010_000);
      const sample = interval(report(0), silent) as Sample;
      expect(allUnknown(sample)).toBe(true);
      expect(sample).toMatchObject({ timers: null, leaseMs: null });
    }
  });
});

test('timers and lease are told by our clock, and half a list of timers is none', () => {
  const skewed = between({ epochMs: START + 10_000, lease: { expiresMs: START + 50_000 } });
  expect(skewed).toMatchObject({
    timers: [{ name: 'logrotate.timer', atMs: START + 86_400_000 }],
    leaseMs: START + 50_000,
  });
  const ahead = interval(
    report(0, { epochMs: START + 100 }),
    report(10_000, { epochMs: START + 10_100, lease: { expiresMs: START + 50_100 } }),
  );
  expect(ahead).toMatchObject({ timers: [{ atMs: START + 86_399_900 }], leaseMs: START + 50_000 });
  for (const timers of [
    [{ name: 'a', atMs: -1 }],
    [{ name: 'a', atMs: START }, {}],
    'daily',
    Array(65).fill({ name: 'a', atMs: START }),
  ]) {
    expect(between({ timers })).toMatchObject({ timers: null });
  }
});

test('whatever an agent sends, the values are plausible or not known, and nothing throws', () => {
  const rng = random(5);
  const odd = [
    -1,
    0,
    1e308,
    Number.NaN,
    '',
    'x',
    null,
    undefined,
    [],
    {},
    [[]],
    true,
    START,
    { idleMs: 1 },
    [{ idleMs: 1 }],
  ];
  const any = () => odd[Math.floor(rng.between(0, odd.length))];
  for (let round = 0; round < 3000; round++) {
    const fields = Object.keys(guest(0));
    const spoil = () =>
      Object.fromEntries(fields.filter(() => rng.chance(0.3)).map((field) => [field, any()]));
    const before = report(0, spoil(), rng.chance(0.5) ? { payloadBytes: any() } : any());
    const after = report(10_000, spoil(), rng.chance(0.5) ? { payloadBytes: any() } : any());
    const sample = interval(before, after) as Sample;
    for (const meter of METERS) {
      const got = value(sample, meter) as number;
      expect(Number.isNaN(got) || (got >= 0 && got <= 1.1e11)).toBe(true);
      if (meter === 'cpu' && !Number.isNaN(got)) expect(got).toBeLessThanOrEqual(100);
    }
  }
});

describe('an agent that', () => {
  function verdictAfter(minutes: number, changedAt: (ms: number) => Record<string, unknown> | null) {
    const collector = new Collector(START);
    let ms = 0;
    for (; ms <= minutes * MINUTE; ms += 10_000) {
      const changed = changedAt(ms);
      const said = changed && guest(ms, changed);
      const reading = readReport(said, { payloadBytes: 100 }, NO_DIRTY, START + ms, 7_000_000 + ms);
      collector.enter(reading, POLICY);
    }
    return decide(collector.history, POLICY, START + ms - 10_000);
  }

  test('reports an idle guest gets it parked', () => {
    expect(verdictAfter(16, () => ({}))).toMatchObject({ verdict: 'park' });
  });

  test('sends nonsense, negative or huge values, or nothing, keeps its VM awake', () => {
    for (const wrong of [
      { cpuBusyMs: -5 },
      { diskBytes: 1e300 },
      { sessions: 'none' },
      { bootId: null },
      null,
    ]) {
      expect(verdictAfter(16, () => wrong)).toMatchObject({ verdict: 'keep', rule: 'unknown' });
      // Once is enough for a window.
      expect(verdictAfter(16, (ms) => (ms === 8 * MINUTE ? wrong : {}))).toMatchObject({
        verdict: 'keep',
        rule: 'unknown',
      });
    }
  });

  test('does not answer in time is as one that says nothing', async () => {
    const collector = new Collector(Date.now());
    const source = {
      guest: () => Promise.reject(new Error('timeout')),
      network: async () => ({ payloadBytes: 1 }),
      hypervisor: async () => NO_DIRTY,
    };
    await collector.collect(source, POLICY);
    await collector.collect(source, POLICY);
    expect(decide(collector.history, POLICY, Date.now())).toMatchObject({ verdict: 'keep', rule: 'unknown' });
  });
});
