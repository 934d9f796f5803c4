import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

const MAIN = join(import.meta.dirname, '../../../../orchestrator/cli/main.ts');
/** Each starts a few processes, on a machine that may be busy. */
const PATIENT = { timeout: 120_000 };
let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'seamless-cli-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function seamless(...args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...args], { timeout: 100_000 }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}
function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

test('simulate --json prints the keys that others rely on, the same for each run', PATIENT, async () => {
  const policy = file('p.yaml', 'version: 1\ndefaults: { park: never }\n');
  const run = async () => {
    const { status, stdout } = await seamless(
      'simulate',
      '--vms',
      '10',
      '--days',
      '3',
      '--seed',
      '2',
      '--policy',
      policy,
      '--json',
    );
    expect(status).toBe(0);
    return JSON.parse(stdout) as { wallSeconds?: number; policies: Record<string, unknown>[] };
  };
  const [report, again] = await Promise.all([run(), run()]);
  expect(Object.keys(report)).toEqual(['vms', 'days', 'wallSeconds', 'policies']);
  const keys = [
    'name',
    'savedGiBHours',
    'possibleGiBHours',
    'wakes',
    'falseWakes',
    'delaySeconds',
    'thrash',
    'parkedWhileBusy',
  ];
  for (const each of report.policies) expect(Object.keys(each)).toEqual(keys);
  expect(report.policies.map(({ name }) => name)).toEqual(['fixed', 'histogram', 'policy', 'oracle']);
  expect(report.policies[2]).toMatchObject({ savedGiBHours: 0, wakes: 0 });
  expect({ ...again, wallSeconds: 0 }).toEqual({ ...report, wallSeconds: 0 });
});

test('a trace that was exported is simulated with the same result', PATIENT, async () => {
  const path = join(folder, 'trace.csv');
  const args = ['--vms', '8', '--days', '5', '--seed', '3'];
  expect(await seamless('simulate', ...args, '--export', path)).toMatchObject({ status: 0 });
  const policiesOf = async (...more: string[]) =>
    (JSON.parse((await seamless('simulate', '--json', ...more)).stdout) as { policies: unknown }).policies;
  expect(await policiesOf('--trace', path)).toEqual(await policiesOf(...args));
});

test('wrong use says what was expected and exits 2', PATIENT, async () => {
  const cases = [
    [['simulate', '--vms', 'many'], /Expected --vms as a whole number from 1 to 1000000, got many/],
    [['simulate', '--days', '0'], /Expected --days/],
    [['simulate', '--trace', 'a.csv', '--vms', '5'], /got both/],
    [['simulate', '--trace', join(folder, 'none.csv')], /Expected a trace at .*ENOENT/],
    [['simulate', '--trace', file('empty.csv', '')], /empty.csv:1: expected the header/],
    [['simulate', '--policy', join(folder, 'none.yaml')], /Expected a policy at .*ENOENT/],
    [['simulate', '--vmz', '5'], /unknown option/],
    [
      ['policy', 'check', file('bad.yaml', 'version: 1\ndefaults: { windw: 5m }\n')],
      /bad.yaml:2: defaults.windw: unknown key/,
    ],
    [['policy', 'check'], /missing required argument/],
  ] as const;
  await Promise.all(
    cases.map(async ([args, message]) => {
      const { status, stderr, stdout } = await seamless(...args);
      expect(stderr).toMatch(message);
      expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    }),
  );
});

test('policy check lists three mistakes at once, also as JSON', PATIENT, async () => {
  const path = file('three.yaml', 'version: 1\ndefaults:\n  windw: 5m\n  percentile: 7\n  park: sometimes\n');
  const { status, stderr, stdout } = await seamless('policy', 'check', path, '--json');
  expect(status).toBe(2);
  expect(stderr.match(/three\.yaml:[345]: /g)).toHaveLength(3);
  const { error } = JSON.parse(stdout) as {
    error: { code: string; details: { problems: { line: number }[] } };
  };
  expect(error.code).toBe('CONFIG_INVALID');
  expect(error.details.problems.map(({ line }) => line)).toEqual([3, 4, 5]);
});

test('policy check shows what holds for a VM, and where it says so', PATIENT, async () => {
  const path = file('good.yaml', 'version: 1\nvms:\n  - match: { name: web-* }\n    window: 5m\n');
  expect(await seamless('policy', 'check', path)).toMatchObject({
    status: 0,
    stdout: `${path}: no problems\n`,
  });
  const { stdout } = await seamless('policy', 'check', path, '--vm', 'web-1');
  expect(stdout).toMatch(/windowMs +300000 \(.*good.yaml:4\)/);
  expect(stdout).toMatch(/minGapMs +600000 \(built in\)/);
});
