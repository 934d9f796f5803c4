import { expect, test } from 'vitest';
import { decide } from '../../../../orchestrator/idle/decide.ts';
import { explain, explanationText } from '../../../../orchestrator/idle/explain.ts';
import { parsePolicy } from '../../../../orchestrator/idle/policy/document.ts';
import { decideRound, type Watched } from '../../../../orchestrator/idle/round.ts';
import { HOUR, MINUTE, POLICY, quietWith, START, watched } from './histories.ts';

const policy = parsePolicy(
  'version: 1\ndefaults:\n  thresholds:\n    network: 128 B/s\n',
  'p.yaml',
).policyFor({ name: 'a', host: 'h' });
const timers = [{ name: 'backup.timer', atMs: START + 3 * HOUR }];
const { history, now } = watched(30 * MINUTE, {
  policy,
  timers,
  valuesAt: () => quietWith({ network: 1000 }),
});
const explanation = explain({
  ...{ vm: 'a', state: 'awake', history, policy, now },
  decision: decide(history, policy, now),
  file: { name: 'p.yaml', problem: null },
});

test('an explanation has the keys that others rely on', () => {
  expect(Object.keys(explanation).slice(0, 7)).toEqual([
    'vm',
    'state',
    'verdict',
    'rule',
    'signals',
    'forecast',
    'nextTimer',
  ]);
  expect(explanation).toMatchObject({
    vm: 'a',
    state: 'awake',
    verdict: 'keep',
    rule: 'busy (p.yaml:4, thresholds.network)',
    nextTimer: '2026-01-05T03:00:00.000Z',
  });
  const names = explanation.signals.map(({ name }) => name);
  expect(names).toEqual(['cpu', 'network', 'disk', 'sessions', 'jobs', 'load', 'dirty', 'timers', 'lease']);
  for (const signal of explanation.signals)
    expect(Object.keys(signal)).toEqual(['name', 'state', 'value', 'threshold', 'age']);
  expect(explanation.signals[1]).toEqual({
    name: 'network',
    state: 'busy',
    value: 1000,
    threshold: 128,
    age: 0,
  });
  expect(Object.keys(explanation.forecast)).toEqual(['nextUse', 'confidence']);
  expect(JSON.parse(JSON.stringify(explanation))).toEqual(explanation);
});

test('people read why, each signal, the forecast and the next timer', () => {
  const text = explanationText(explanation, 'Asia/Tokyo');
  expect(text).toMatch(/^leave as it is: network is busy \(busy \(p\.yaml:4, thresholds\.network\)\)$/m);
  expect(text).toMatch(/^ {2}busy +network +1000 B\/s, not above 128 B\/s, 0s old$/m);
  expect(text).toMatch(/next use expected|no use is expected/);
  expect(text).toMatch(
    /^ {2}next timer backup\.timer in 2h 30m, 2026-01-05 12:00:00 here, 2026-01-05 03:00:00 UTC$/m,
  );
});

test('a round tells only what is to be done, and ends when it is told to', async () => {
  const vm = (name: string, use: number): Watched => ({
    name,
    policy: POLICY,
    history: watched(30 * MINUTE, { valuesAt: () => quietWith({ network: use }) }).history,
  });
  const told: string[] = [];
  const vms = [vm('idle', 0), vm('used', 500), vm('idle-too', 0)];
  expect(
    await decideRound(
      vms,
      () => now,
      ({ name }, { verdict }) => told.push(`${name} ${verdict}`),
    ),
  ).toBe(3);
  expect(told).toEqual(['idle park', 'idle-too park']);
  const many = Array.from({ length: 20_000 }, () => vms[0] as Watched);
  expect(
    await decideRound(
      many,
      () => now,
      () => {},
      AbortSignal.abort(),
    ),
  ).toBeLessThan(20_000);
});
