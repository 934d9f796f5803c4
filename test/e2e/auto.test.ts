/** What `scripts/demo --auto` shows, on a native VM: every judgement of the demo itself. */
import { beforeAll, expect, test } from 'vitest';
import { playAuto } from '../../demo/auto.ts';
import { NATIVE } from '../../demo/auto-policy.ts';
import { type AutoReport, renderAuto } from '../../demo/auto-report.ts';
import { say, sharedStage } from './fixtures/shared-stage.ts';

const stage = sharedStage({ native: true, transport: 'local', workloadMiB: 16, sampleMs: NATIVE.sampleMs });
let report: AutoReport;

beforeAll(async () => {
  report = await playAuto(stage(), NATIVE, say, AbortSignal.timeout(170_000));
  say(renderAuto(report));
}, 180_000);

test('the service parks the VM by itself when its window has passed', () => {
  expect(report.found.rule).toMatch(/^idle /);
  expect(report.found.seconds).toBeGreaterThanOrEqual(NATIVE.window);
});

test('probes are answered for it, and wake nobody', () => {
  expect(report.probes).toMatchObject({ portsScanned: 100, healthChecks: 5 });
});

test('a user wakes it, and the grace keeps it awake though every signal is quiet', () => {
  expect(report.user.cause).toBe('syscall');
  expect(report.grace.rules).toContain('grace');
  expect(report.grace.seconds).toBeGreaterThanOrEqual(2 * NATIVE.window);
  // Between two questions it was parked: no doubt was left.
  expect(report.grace.signals.filter(({ state }) => state === 'busy')).toEqual([]);
});

test('it is awake when its timer fires', () => {
  expect(report.timer.cause).toBe('timer');
  expect(report.timer.awakeSecondsBefore).toBeGreaterThan(0);
  expect(report.timer.firedMsLate).toBeGreaterThanOrEqual(0);
});

test('nobody noticed anything', () => {
  expect(report.violations).toEqual([]);
});
