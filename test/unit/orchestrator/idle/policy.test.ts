import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { createLog } from '../../../../common/log.ts';
import { parsePolicy } from '../../../../orchestrator/idle/policy/document.ts';
import { watchPolicy } from '../../../../orchestrator/idle/policy/file.ts';
import { isGlobMatch } from '../../../../orchestrator/idle/policy/match.ts';
import { BUILT_IN, placeOf } from '../../../../orchestrator/idle/policy/policy.ts';

const GOOD = `version: 1
defaults:
  window: 20m
  thresholds:
    cpu: 8%
    network: 128 B/s
  syn:
    tcp/22: hold
  timers:
    "apt-daily*": ignore
    "*": wake
vms:
  - match:
      name: web-*
      label: { tier: front }
    window: 1h 30m
    syn: { tcp/80: accept }
    healthChecks: [10.0.0.1, "fd00::/8"]
  - match: { metadata: { project: "*prod*" } }
    park: never
    switchOff: ram
  - match: { name: [build-1, build-2] }
    park: always-allow
    gateways: nginx
    forecast: wake
    confidence: 80%
hosts:
  - match: { name: hv* }
    spareMemory: 8 GiB
`;

function problemsOf(text: string): string[] {
  try {
    parsePolicy(text, 'p.yaml');
  } catch (thrown) {
    expect(thrown).toMatchObject({ code: 'CONFIG_INVALID' });
    return (thrown as Error).message.split('\n');
  }
  return [];
}

describe('a policy file', () => {
  const document = parsePolicy(GOOD, 'p.yaml');

  test('gives each VM the settings of all selectors that match it, the last first', () => {
    const web = document.policyFor({ name: 'web-3', host: 'hv1', labels: { tier: 'front' } });
    expect(web).toMatchObject({
      park: 'auto',
      windowMs: 90 * 60_000,
      thresholds: { ...BUILT_IN.thresholds, cpu: 8, network: 128 },
      syn: { 'tcp/22': 'hold', 'tcp/80': 'accept' },
      healthChecks: ['10.0.0.1', 'fd00::/8'],
      spareMemoryBytes: 8 * 2 ** 30,
    });
    expect(document.policyFor({ name: 'web-3', host: 'x' })).toMatchObject({
      windowMs: 20 * 60_000,
      spareMemoryBytes: 0,
    });
    const prod = { name: 'web-3', host: 'x', labels: { tier: 'front' }, metadata: { project: 'eu-prod-1' } };
    expect(document.policyFor(prod)).toMatchObject({
      park: 'never',
      switchOff: 'ram',
      windowMs: 90 * 60_000,
    });
    expect(document.policyFor({ name: 'build-2', host: 'x' })).toMatchObject({
      park: 'always-allow',
      gateways: ['nginx'],
      forecast: 'wake',
      confidence: 0.8,
    });
  });

  test('tells the line of each setting', () => {
    const web = document.policyFor({ name: 'web-3', host: 'hv1', labels: { tier: 'front' } });
    expect(placeOf(web, 'windowMs')).toBe('p.yaml:16');
    expect(placeOf(web, 'thresholds.network')).toBe('p.yaml:6');
    expect(placeOf(web, 'minGapMs')).toBe('built in');
  });

  test('with three mistakes has all three told, each with its line', () => {
    const text =
      'version: 1\ndefaults:\n  windw: 5m\n  thresholds:\n    cpu: 200%\nvms:\n  - match: {}\n    park: sometimes\n';
    expect(problemsOf(text)).toEqual([
      'p.yaml:3: defaults.windw: unknown key; did you mean window?',
      'p.yaml:5: defaults.thresholds.cpu: expected a share of the CPUs, such as 5%, got "200%"',
      'p.yaml:8: vms[0].park: expected auto or never or always-allow, got "sometimes"',
    ]);
  });

  test.each([
    ['', 1, 'expected a mapping, got nothing'],
    ['- 1', 1, 'expected a mapping, got a list'],
    ['version: 2', 1, 'version: expected 1, got 2'],
    ['defaults: {}', 1, 'version: missing'],
    ['version: 1\nversion: 1', 2, 'Map keys must be unique'],
    ['version: 1\ndefaults: [', 2, 'Flow sequence'],
    ['version: 1\ndefaults:\n\twindow: 5m', 3, 'Tabs'],
    ['version: 1\ndefaults:\n  window:', 3, 'defaults.window: expected a duration'],
    ['version: 1\ndefaults:\n  window: 4s', 3, 'defaults.window: expected a duration from 5s to 24h'],
    ['version: 1\ndefaults:\n  window: -5m', 3, 'defaults.window: expected a duration'],
    ['version: 1\ndefaults:\n  thresholds: 5', 3, 'defaults.thresholds: expected a mapping, got 5'],
    [
      'version: 1\ndefaults:\n  thresholds: {jobs: -1}',
      3,
      'defaults.thresholds.jobs: expected a whole number',
    ],
    ['version: 1\ndefaults:\n  percentile: 20', 3, 'defaults.percentile: expected a number from 50 to 100'],
    ['version: 1\ndefaults:\n  syn: {tcp/0: hold}', 3, 'defaults.syn: expected a port such as tcp/80'],
    ['version: 1\ndefaults:\n  syn: {udp/53: hold}', 3, 'defaults.syn: expected a port such as tcp/80'],
    [
      'version: 1\ndefaults:\n  healthChecks: [0.0.0.0/0]',
      3,
      'defaults.healthChecks[0]: expected an address',
    ],
    ['version: 1\ndefaults:\n  syn: {tcp/80: drop}', 3, 'defaults.syn.tcp/80: expected hold or accept'],
    [
      'version: 1\ndefaults:\n  healthChecks: [10.0.0.0/33]',
      3,
      'defaults.healthChecks[0]: expected an address',
    ],
    ['version: 1\ndefaults:\n  timers: maybe', 3, 'defaults.timers: expected wake or ignore'],
    ['version: 1\nvms:\n  - park: never', 3, 'vms[0].match: missing'],
    ['version: 1\nvms: {}', 2, 'vms: expected a list, got a mapping'],
    [
      'version: 1\nhosts:\n  - match: {name: h}\n    spareMemory: 8 gigs',
      4,
      'hosts[0].spareMemory: expected a size',
    ],
    ['version: 1\ndefaults: *none', 2, 'defaults: expected a mapping, got nothing'],
  ])('%j is refused with its line', (text, line, message) => {
    const problems = problemsOf(text);
    expect(problems.length).toBeGreaterThan(0);
    expect(
      problems.some((each) => each.startsWith(`p.yaml:${line}: `) && each.includes(message)),
      problems.join('\n'),
    ).toBe(true);
  });
});

test('the page shows a policy that holds, whose defaults are the built-in ones', () => {
  const page = readFileSync(join(import.meta.dirname, '../../../../docs/policy.md'), 'utf8');
  const [, text = ''] = /```yaml\n(.*?)```/s.exec(page) ?? [];
  const {
    lines: _lines,
    file: _file,
    ...shown
  } = parsePolicy(text, 'page.yaml').policyFor({ name: 'vm', host: 'h' });
  const { lines: _none, file: _built, ...builtIn } = BUILT_IN;
  expect(shown).toEqual({
    ...builtIn,
    syn: { 'tcp/22': 'hold' },
    healthChecks: ['10.0.0.5', 'fd00:1::/64'],
  });
});

test('a name with stars matches what they stand for, and is never slow', () => {
  expect(isGlobMatch('web-*', 'web-')).toBe(true);
  expect(isGlobMatch('*-db-?', 'eu-west-db-1')).toBe(true);
  expect(isGlobMatch('web', 'web-1')).toBe(false);
  expect(isGlobMatch('a.c', 'abc')).toBe(false);
  const startedAt = performance.now();
  expect(isGlobMatch('a*'.repeat(50), `${'a'.repeat(5000)}b`)).toBe(true);
  expect(isGlobMatch(`${'a*'.repeat(50)}c`, 'a'.repeat(5000))).toBe(false);
  expect(performance.now() - startedAt).toBeLessThan(1000);
});

describe('a running service', () => {
  function policyAt(text: string) {
    const folder = mkdtempSync(join(tmpdir(), 'seamless-policy-'));
    const path = join(folder, 'policy.yaml');
    writeFileSync(path, text);
    const lines: string[] = [];
    let changes = 0;
    const file = watchPolicy(
      path,
      createLog('info', {}, (line) => lines.push(line)),
      () => changes++,
    );
    onTestFinished(() => {
      file.close();
      rmSync(folder, { recursive: true });
    });
    return { file, path, lines, changes: () => changes };
  }
  const windowOf = (file: ReturnType<typeof watchPolicy>) =>
    file.current.policyFor({ name: 'a', host: 'h' }).windowMs;

  test('takes a changed policy without a restart, however it is written', async () => {
    const { file, path, lines } = policyAt('version: 1\ndefaults: { window: 5m }\n');
    writeFileSync(path, 'version: 1\ndefaults: { window: 6m }\n');
    await vi.waitFor(() => expect(windowOf(file)).toBe(360_000), 5000);
    writeFileSync(`${path}.new`, 'version: 1\ndefaults: { window: 7m }\n');
    renameSync(`${path}.new`, path);
    await vi.waitFor(() => expect(windowOf(file)).toBe(420_000), 5000);
    expect(lines.some((line) => line.includes('policy.reloaded'))).toBe(true);
  });

  test('keeps the old policy when the new one is wrong, and says so, until it is mended', async () => {
    const { file, path, lines, changes } = policyAt('version: 1\ndefaults: { window: 5m }\n');
    writeFileSync(path, 'version: 1\ndefaults: { windw: 6m }\n');
    await vi.waitFor(() => expect(file.problem).toMatchObject({ code: 'CONFIG_INVALID' }), 5000);
    expect(windowOf(file)).toBe(300_000);
    expect(lines.at(-1)).toMatch(/policy.refused.*policy.yaml:2: defaults.windw: unknown key/);
    rmSync(path);
    await vi.waitFor(() => expect(file.problem?.message).toMatch(/ENOENT/), 5000);
    expect(windowOf(file)).toBe(300_000);
    writeFileSync(path, 'version: 1\ndefaults: { window: 8m }\n');
    await vi.waitFor(() => expect(windowOf(file)).toBe(480_000), 5000);
    expect(file.problem).toBeNull();
    expect(changes()).toBeGreaterThanOrEqual(3);
  });
});
