import { describe, expect, test } from 'vitest';
import { type Decision, decide } from '../../../../orchestrator/idle/decide.ts';
import { VmHistory } from '../../../../orchestrator/idle/history.ts';
import type { Policy } from '../../../../orchestrator/idle/policy/policy.ts';
import { METERS } from '../../../../orchestrator/idle/signals.ts';
import { random } from '../../../../orchestrator/idle/simulate/random.ts';
import {
  DAY,
  HOUR,
  MINUTE,
  POLICY,
  QUIET,
  quietWith,
  randomValues,
  SECOND,
  START,
  sample,
  watched,
} from './histories.ts';

const WINDOW = POLICY.windowMs;
const signal = ({ signals }: Decision, name: string) => signals.find((each) => each.name === name);

describe('whatever the history', () => {
  const HISTORIES = 400;

  test('a VM is parked only when each signal is quiet over the whole window', () => {
    const rng = random(1);
    let parks = 0;
    for (let round = 0; round < HISTORIES; round++) {
      // Long quiet stretches, else none would ever be parked.
      const noisy = rng.between(0, 30) * MINUTE;
      const all: (readonly number[])[] = [];
      const { history, now } = watched(45 * MINUTE, {
        valuesAt: (at) => {
          const values = at < START + noisy ? randomValues(rng) : quietWith({ cpu: rng.between(0, 4) });
          all.push(values);
          return values;
        },
      });
      const decision = decide(history, POLICY, now);
      const inWindow = all.slice(-WINDOW / (10 * SECOND));
      const column = (name: (typeof METERS)[number]) =>
        inWindow.map((values) => values[METERS.indexOf(name)] as number);
      const isUsed =
        column('network').some((value) => !(value <= 64)) || column('sessions').some((value) => value !== 0);
      const isLoaded = column('cpu').filter((value) => value > 5).length > 4;
      const isUnknown = (['cpu', 'disk', 'load', 'dirty'] as const).some((name) =>
        column(name).some(Number.isNaN),
      );
      if (isUsed || isLoaded || isUnknown) expect(decision.verdict).toBe('keep');
      if (decision.verdict !== 'park') continue;
      parks++;
      expect(decision.signals.every(({ state }) => state === 'quiet')).toBe(true);
    }
    expect(parks).toBeGreaterThan(HISTORIES / 5);
  });

  test('one more busy or unknown meter never turns a VM from awake to parked', () => {
    const rng = random(2);
    for (let round = 0; round < HISTORIES; round++) {
      const meter = Math.floor(rng.between(0, METERS.length));
      const worse = rng.chance(0.5) ? Number.NaN : 1e9;
      const from = START + rng.between(15, 29) * MINUTE;
      const seed = Math.floor(rng.between(0, 1e6));
      const run = (spoilt: boolean) => {
        const own = random(seed);
        const { history, now } = watched(30 * MINUTE, {
          valuesAt: (at) => {
            const values = own.chance(0.01) ? randomValues(own) : [...QUIET];
            if (spoilt && at >= from) values[meter] = worse;
            return values;
          },
        });
        return decide(history, POLICY, now);
      };
      const spoilt = run(true);
      if (run(false).verdict === 'keep') expect(spoilt.verdict).toBe('keep');
      // Jobs count while they run, and here they run until now.
      expect(spoilt.verdict).toBe('keep');
    }
  });

  test('the same question has the same answer, and asking changes nothing', () => {
    const rng = random(3);
    for (let round = 0; round < 100; round++) {
      const { history, now } = watched(20 * MINUTE, { valuesAt: () => randomValues(rng) });
      const policy: Policy = { ...POLICY, forecast: 'wake' };
      const first = decide(history, policy, now);
      decide(history, { ...policy, windowMs: 5 * MINUTE }, now + HOUR);
      expect(decide(history, policy, now)).toEqual(first);
      expect(decide(history, policy, now, 'verdict')).toEqual({ ...first, signals: [] });
    }
  });

  test('with no more use, a VM is parked at the time that was foretold and not before', () => {
    const rng = random(4);
    for (let round = 0; round < 200; round++) {
      const history = new VmHistory(START);
      let now = START;
      for (let i = 0; i < 20; i++) {
        const length = rng.between(10, 200) * SECOND;
        history.observe(sample(now, now + length, rng.chance(0.4) ? randomValues(rng) : QUIET), POLICY);
        now += length;
      }
      for (let asked = 0; ; asked++) {
        const { verdict, recheckAt } = decide(history, POLICY, now);
        if (verdict === 'park') break;
        expect(asked).toBeLessThan(20);
        expect(recheckAt).toBeGreaterThan(now);
        expect(recheckAt).toBeLessThanOrEqual(now + 2 * WINDOW);
        history.observe(sample(now, recheckAt - 1), POLICY);
        if (recheckAt - 1 > now) expect(decide(history, POLICY, recheckAt - 1).verdict).toBe('keep');
        history.observe(sample(recheckAt - 1, recheckAt), POLICY);
        now = recheckAt;
      }
    }
  });
});

describe('an awake VM', () => {
  test('is parked when it has been quiet for the window, and not a sample sooner', () => {
    const { history, now } = watched(WINDOW - 10 * SECOND);
    expect(decide(history, POLICY, now)).toMatchObject({ verdict: 'keep', rule: 'unknown' });
    history.observe(sample(now, now + 10 * SECOND), POLICY);
    expect(decide(history, POLICY, now + 10 * SECOND)).toMatchObject({ verdict: 'park', rule: 'idle' });
  });

  test.each([
    ['cpu', 50, 6 * 10 * SECOND],
    ['network', 65, 10 * SECOND],
    ['disk', 1e6, 6 * 10 * SECOND],
    ['sessions', 1, 10 * SECOND],
    ['load', 10, 6 * 10 * SECOND],
    ['dirty', 1e7, 6 * 10 * SECOND],
  ] as const)('is kept by %s of %d some minutes ago', (name, value, lengthMs) => {
    const from = START + 20 * MINUTE;
    const { history, now } = watched(30 * MINUTE, {
      valuesAt: (at) => (at >= from && at < from + lengthMs ? quietWith({ [name]: value }) : QUIET),
    });
    const decision = decide(history, POLICY, now);
    expect(decision).toMatchObject({
      verdict: 'keep',
      rule: 'busy',
      signal: name,
      setting: `thresholds.${name}`,
    });
    expect(signal(decision, name)).toMatchObject({ state: 'busy', value });
  });

  test('may have a hiccup: a percentile is judged, not the mean and not the peak', () => {
    const { history, now } = watched(30 * MINUTE, {
      valuesAt: (at) => (at === START + 20 * MINUTE ? quietWith({ cpu: 100, disk: 1e9 }) : QUIET),
    });
    expect(decide(history, POLICY, now).verdict).toBe('park');
  });

  test('that has begun to work half a minute ago is busy at once', () => {
    const { history, now } = watched(30 * MINUTE, {
      valuesAt: (at) => (at >= START + 30 * MINUTE - 20 * SECOND ? quietWith({ load: 90 }) : QUIET),
    });
    expect(decide(history, POLICY, now)).toMatchObject({ verdict: 'keep', rule: 'busy', signal: 'load' });
  });

  test('is kept by a job as long as it runs, and no longer', () => {
    const { history, now } = watched(30 * MINUTE, { valuesAt: () => quietWith({ jobs: 1 }) });
    expect(decide(history, POLICY, now)).toMatchObject({ rule: 'busy', signal: 'jobs' });
    watched(MINUTE, { history, from: now });
    expect(decide(history, POLICY, now + MINUTE).verdict).toBe('park');
  });

  test('of which nothing new is heard is kept', () => {
    const { history, now } = watched(30 * MINUTE);
    expect(decide(history, POLICY, now + MINUTE)).toMatchObject({ verdict: 'keep', rule: 'unknown' });
  });

  test('is kept when nobody can say when its timers fire', () => {
    const { history, now } = watched(30 * MINUTE);
    history.observe({ ...sample(now, now + 10 * SECOND), timers: null }, POLICY);
    const at = now + 10 * SECOND;
    expect(decide(history, POLICY, at)).toMatchObject({ verdict: 'keep', rule: 'unknown', signal: 'timers' });
    const ignoring: Policy = { ...POLICY, timers: [{ pattern: '*', action: 'ignore' }] };
    expect(decide(history, ignoring, at).verdict).toBe('park');
    history.observe({ ...sample(at, at + 10 * SECOND), leaseMs: null }, POLICY);
    expect(decide(history, ignoring, at + 10 * SECOND)).toMatchObject({ rule: 'unknown', signal: 'lease' });
  });

  test('is never parked when the policy says so', () => {
    const { history, now } = watched(30 * MINUTE);
    expect(decide(history, { ...POLICY, park: 'never' }, now)).toMatchObject({
      verdict: 'keep',
      rule: 'never',
      setting: 'park',
    });
  });

  test('with always-allow is not kept by its own load, but by people and by doubt', () => {
    const allow: Policy = { ...POLICY, park: 'always-allow' };
    const doing = (values: ArrayLike<number>) => {
      const { history, now } = watched(30 * MINUTE, { valuesAt: () => values });
      return decide(history, allow, now);
    };
    expect(doing(quietWith({ cpu: 100, load: 400, disk: 1e9, jobs: 2 })).verdict).toBe('park');
    expect(doing(quietWith({ network: 1000 })).verdict).toBe('keep');
    expect(doing(quietWith({ sessions: 1 })).verdict).toBe('keep');
    expect(doing(quietWith({ cpu: Number.NaN })).verdict).toBe('keep');
  });
});

describe('after a wake', () => {
  function woken(parkedMs: number, times = 1): { history: VmHistory; at: number } {
    const history = new VmHistory(START);
    let at = START;
    for (let i = 0; i < times; i++) {
      history.moved('parking', at);
      history.moved('parked', at);
      at += parkedMs;
      history.moved('moving', at, 'use');
      history.moved('awake', at);
    }
    return { history, at };
  }
  const parkedAfter = (history: VmHistory, at: number) => {
    for (let now = at; now < at + 2 * DAY; now += MINUTE) {
      history.observe(sample(now, now + MINUTE), POLICY);
      if (decide(history, POLICY, now + MINUTE).verdict === 'park') return now + MINUTE - at;
    }
    return Number.POSITIVE_INFINITY;
  };

  test('a VM has a grace of twice the window', () => {
    const { history, at } = woken(HOUR);
    expect(parkedAfter(history, at)).toBe(2 * WINDOW);
  });

  test('the grace doubles with each park of the last day that was too short to pay, up to 32 times', () => {
    for (const [bounces, factor] of [
      [1, 2],
      [2, 4],
      [3, 8],
      [9, 32],
    ] as const) {
      const { history, at } = woken(5 * MINUTE, bounces);
      expect(parkedAfter(history, at)).toBe(2 * WINDOW * factor);
    }
  });

  test('a park that traffic took back is a bounce', () => {
    const { history, now } = watched(30 * MINUTE);
    history.moved('parking', now);
    history.moved('awake', now, 'use');
    expect(parkedAfter(history, now)).toBe(4 * WINDOW);
  });
});

describe('a VM that can’t be parked', () => {
  const ERROR = { code: 'VM_UNPARKABLE', message: 'it maps /dev/kvm' };

  test('is tried again after a window, then after twice as long each time, up to an hour', () => {
    const { history, now } = watched(30 * MINUTE);
    const pauses = Array.from({ length: 5 }, () => {
      history.refused(ERROR, now, POLICY);
      return decide(history, POLICY, now).recheckAt - now;
    });
    expect(pauses).toEqual([15, 30, 60, 60, 60].map((minutes) => minutes * MINUTE));
    expect(decide(history, POLICY, now)).toMatchObject({ verdict: 'keep', rule: 'refused', setting: null });
    expect(history.wakes).toEqual([]);
  });

  test('is no reason for anything else: where it was not to be parked it is kept as before', () => {
    const rng = random(5);
    let refused = 0;
    for (let round = 0; round < 200; round++) {
      const noisyMs = rng.between(0, 30) * MINUTE;
      const { history, now } = watched(30 * MINUTE, {
        valuesAt: (at) => (at < START + noisyMs ? randomValues(rng) : QUIET),
      });
      const before = decide(history, POLICY, now);
      history.refused(ERROR, now, POLICY);
      const after = decide(history, POLICY, now);
      if (before.verdict === 'park') {
        refused++;
        expect(after).toMatchObject({ verdict: 'keep', rule: 'refused' });
      } else expect(after).toEqual(before);
    }
    expect(refused).toBeGreaterThan(20);
  });

  test('is forgotten when a park goes well', () => {
    const { history, now } = watched(30 * MINUTE);
    history.refused(ERROR, now, POLICY);
    history.moved('parking', now);
    history.moved('awake', now, null);
    expect(history).toMatchObject({ wakes: [], refusal: { times: 1 } });
    history.moved('parking', now);
    history.moved('parked', now);
    expect(history.refusal).toBeNull();
  });
});

test('a timer whose wake failed is still due', () => {
  const timers = [{ name: 'backup.timer', atMs: START + HOUR }];
  const { history, now } = watched(30 * MINUTE, { timers });
  history.moved('parking', now);
  history.moved('parked', now);
  history.moved('moving', START + HOUR - MINUTE, 'timer');
  history.moved('parked', START + HOUR + MINUTE);
  expect(decide(history, POLICY, START + HOUR + MINUTE)).toMatchObject({ verdict: 'wake', rule: 'timer' });
});

describe('a VM that is parking', () => {
  test('is taken back by traffic that comes meanwhile', () => {
    const { history, now } = watched(30 * MINUTE);
    history.moved('parking', now);
    history.observe(sample(now, now + 10 * SECOND), POLICY);
    expect(decide(history, POLICY, now + 10 * SECOND)).toMatchObject({ verdict: 'keep', rule: 'moving' });
    history.observe(sample(now + 10 * SECOND, now + 20 * SECOND, quietWith({ network: 500 })), POLICY);
    expect(decide(history, POLICY, now + 20 * SECOND)).toMatchObject({
      verdict: 'abort',
      rule: 'busy',
      signal: 'network',
    });
  });
});

describe('after a restart of the service', () => {
  const timers = [{ name: 'backup.timer', atMs: START + 3 * HOUR }];
  function parkedBefore(): unknown {
    const { history, now } = watched(30 * MINUTE, { timers });
    history.moved('parking', now);
    history.moved('parked', now);
    return JSON.parse(JSON.stringify(history.toRecord()));
  }

  test('a parked VM is still woken for its timer, even for one that has passed meanwhile', () => {
    const restored = VmHistory.restore(START + HOUR, 'parked', parkedBefore());
    const due = START + 3 * HOUR - POLICY.leadMs;
    expect(decide(restored, POLICY, START + HOUR)).toMatchObject({ verdict: 'keep', recheckAt: due });
    expect(decide(restored, POLICY, due)).toMatchObject({ verdict: 'wake', rule: 'timer' });
    const late = VmHistory.restore(START + DAY, 'parked', parkedBefore());
    expect(decide(late, POLICY, START + DAY)).toMatchObject({ verdict: 'wake', rule: 'timer' });
  });

  test('an awake VM is unknown for a window, and its bounces are remembered', () => {
    const { history, now } = watched(30 * MINUTE);
    history.moved('parking', now);
    history.moved('awake', now, 'use');
    const record = JSON.parse(JSON.stringify(history.toRecord())) as unknown;
    const restored = VmHistory.restore(now, 'awake', record);
    expect(decide(restored, POLICY, now)).toMatchObject({ verdict: 'keep', rule: 'unknown' });
    const later = watched(30 * MINUTE, { history: restored, from: now }).now;
    expect(decide(restored, POLICY, later)).toMatchObject({ verdict: 'keep', rule: 'grace' });
  });

  test('of a damaged record nothing is taken', () => {
    const good = parkedBefore() as object;
    for (const wrong of [
      null,
      7,
      'x',
      [],
      { ...good, timers: [{ name: 1 }] },
      { ...good, timers: [null], wakes: [null] },
      { ...good, plansAt: 'x' },
      { ...good, timers: 7 },
    ]) {
      expect(VmHistory.restore(START + HOUR, 'parked', wrong).timers).toBeNull();
    }
  });
});

describe('timers', () => {
  const timer = (atMs: number, name = 'backup.timer') => ({ name, atMs });
  const parked = (timers: { name: string; atMs: number }[], policy = POLICY) => {
    const { history, now } = watched(30 * MINUTE, { timers, policy });
    history.moved('parking', now);
    history.moved('parked', now);
    return { history, now };
  };

  test('wake a parked VM shortly before, as the policy says', () => {
    const { history, now } = parked([timer(START + 3 * HOUR)]);
    const due = START + 3 * HOUR - POLICY.leadMs;
    expect(decide(history, POLICY, now)).toMatchObject({ verdict: 'keep', recheckAt: due });
    expect(decide(history, POLICY, due - 1).verdict).toBe('keep');
    expect(decide(history, POLICY, due)).toMatchObject({
      verdict: 'wake',
      rule: 'timer',
      nextTimer: { name: 'backup.timer' },
    });
  });

  test('that passed while nobody looked are still due', () => {
    const { history } = parked([timer(START + 3 * HOUR)]);
    expect(decide(history, POLICY, START + 9 * HOUR)).toMatchObject({ verdict: 'wake', rule: 'timer' });
  });

  test('that the policy ignores wake nobody', () => {
    const policy: Policy = {
      ...POLICY,
      timers: [
        { pattern: 'apt-*', action: 'ignore' },
        { pattern: '*', action: 'wake' },
      ],
    };
    const { history, now } = parked(
      [timer(START + 2 * HOUR, 'apt-daily.timer'), timer(START + 5 * HOUR)],
      policy,
    );
    expect(decide(history, policy, now).nextTimer).toEqual(timer(START + 5 * HOUR));
    expect(decide(history, policy, START + 3 * HOUR).verdict).toBe('keep');
    expect(decide(history, policy, START + 5 * HOUR).verdict).toBe('wake');
  });

  test('that come before a park would pay keep the VM awake until their work shows', () => {
    const timers = [timer(START + 38 * MINUTE)];
    const { history, now } = watched(30 * MINUTE, { timers });
    expect(decide(history, POLICY, now)).toMatchObject({ verdict: 'keep', rule: 'busy', signal: 'timers' });
    watched(8 * MINUTE, { history, from: now, timers });
    // It has just fired; no meter shows it yet.
    expect(decide(history, POLICY, START + 38 * MINUTE)).toMatchObject({ verdict: 'keep', signal: 'timers' });
    watched(30 * SECOND, { history, from: START + 38 * MINUTE });
    expect(decide(history, POLICY, START + 38 * MINUTE + 30 * SECOND).verdict).toBe('park');
  });

  test('and a DHCP lease that ends wakes the VM whatever the policy says of timers', () => {
    const { history, now } = watched(30 * MINUTE);
    history.observe({ ...sample(now, now + 10 * SECOND), leaseMs: START + 2 * HOUR }, POLICY);
    history.moved('parking', now);
    history.moved('parked', now);
    const ignoring: Policy = { ...POLICY, timers: [{ pattern: '*', action: 'ignore' }] };
    expect(decide(history, ignoring, START + HOUR).verdict).toBe('keep');
    expect(decide(history, ignoring, START + 2 * HOUR)).toMatchObject({ verdict: 'wake', rule: 'lease' });
  });
});

describe('what is learned', () => {
  const learning: Policy = { ...POLICY, forecast: 'wake' };
  /** Used each workday from 9:10 to 9:40 for three weeks, and parked else; ends on a Monday, 00:00. */
  function officeVm(): VmHistory {
    const history = new VmHistory(START);
    for (let day = 0; day < 21; day++) {
      if (day % 7 > 4) continue;
      const from = START + day * DAY + 9 * HOUR + 10 * MINUTE;
      history.uses.note(from, from + 30 * MINUTE);
    }
    history.uses.advance(START + 21 * DAY);
    history.moved('parking', START + 20 * DAY);
    history.moved('parked', START + 20 * DAY);
    return history;
  }
  const monday = START + 21 * DAY;
  const expectedUse = monday + 9 * HOUR + 10 * MINUTE;

  test('foretells the next use with a confidence', () => {
    const { forecast } = decide(officeVm(), learning, monday);
    expect(forecast).toMatchObject({ nextUse: expectedUse, begins: true });
    expect(forecast.confidence).toBeGreaterThan(0.9);
    expect(decide(officeVm(), learning, monday + 5 * DAY).forecast.nextUse).toBe(expectedUse + 7 * DAY);
  });

  test('wakes a VM ahead of use when the policy says so', () => {
    const due = expectedUse - learning.leadMs;
    expect(decide(officeVm(), learning, due - 1).verdict).toBe('keep');
    expect(decide(officeVm(), learning, due)).toMatchObject({ verdict: 'wake', rule: 'forecast' });
    expect(decide(officeVm(), { ...learning, forecast: 'use' }, due).verdict).toBe('keep');
    expect(decide(officeVm(), { ...learning, forecast: 'ignore' }, due).verdict).toBe('keep');
  });

  test('wakes none on a host that has no memory to spare', () => {
    const history = officeVm();
    history.hostFreeBytes = 4 * 2 ** 30;
    history.memoryBytes = 2 * 2 ** 30;
    const due = expectedUse - learning.leadMs;
    expect(decide(history, { ...learning, spareMemoryBytes: 3 * 2 ** 30 }, due).verdict).toBe('keep');
    expect(decide(history, { ...learning, spareMemoryBytes: 2 * 2 ** 30 }, due).verdict).toBe('wake');
  });

  test('keeps a VM awake when its next use comes too soon for a park to pay', () => {
    const history = officeVm();
    history.moved('moving', monday + 8 * HOUR, 'manual');
    history.moved('awake', monday + 8 * HOUR);
    const { now } = watched(66 * MINUTE, { history, from: monday + 8 * HOUR, policy: learning });
    expect(decide(history, learning, now)).toMatchObject({
      verdict: 'keep',
      rule: 'forecast',
      setting: 'minGapMs',
    });
    expect(decide(history, POLICY, now).verdict).toBe('park');
  });

  test('ends a wake that nobody used in a third of the time, unless somebody is expected', () => {
    const parkedAfter = (at: number, policy: Policy) => {
      const history = officeVm();
      history.moved('moving', at, 'timer');
      history.moved('awake', at);
      for (let now = at; ; now += 10 * SECOND) {
        history.observe(sample(now, now + 10 * SECOND), policy);
        if (decide(history, policy, now + 10 * SECOND).verdict === 'park') return now + 10 * SECOND - at;
      }
    };
    expect(parkedAfter(monday + 2 * HOUR, learning)).toBe((2 * WINDOW) / 3);
    expect(parkedAfter(monday + 2 * HOUR, POLICY)).toBe(2 * WINDOW);
    expect(parkedAfter(monday + 9 * HOUR + 20 * MINUTE, learning)).toBeGreaterThanOrEqual(2 * WINDOW);
  });

  test('never shortens the window over which people’s traces count', () => {
    const history = officeVm();
    const at = monday + 2 * HOUR;
    history.moved('moving', at, 'use');
    history.moved('awake', at);
    const { now } = watched(12 * MINUTE, {
      history,
      from: at,
      policy: learning,
      valuesAt: (start) => (start < at + 20 * SECOND ? quietWith({ network: 1000 }) : QUIET),
    });
    expect(decide(history, learning, now)).toMatchObject({
      verdict: 'keep',
      rule: 'busy',
      signal: 'network',
    });
  });
});
