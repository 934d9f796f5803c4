/** The schema of profiles, what they compile to, and what is proposed from an observation. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { answeredPaths, matchesName } from '../../../criu/answers.ts';
import { compileProfile } from '../../../profiles/compile.ts';
import { proposeProfile } from '../../../profiles/learn.ts';
import { parseProfile, readProfile } from '../../../profiles/profile.ts';
import type { Observation, ObservationReport } from '../../../vm-agent/api.ts';

const FOLDER = join(import.meta.dirname, '../../../profiles');

function problemsOf(text: string): string[] {
  try {
    parseProfile(text, 'x.yaml');
  } catch (error) {
    expect(error).toMatchObject({ code: 'CONFIG_INVALID' });
    return (error as { details: { problems: string[] } }).details.problems;
  }
  return [];
}

test('the profiles that come with the repository are good', () => {
  const files = readdirSync(FOLDER).filter((name) => name.endsWith('.yaml'));
  expect(files).toContain('default.yaml');
  for (const file of files) expect(() => readProfile(join(FOLDER, file))).not.toThrow();
});

test('a template without a profile has an empty one', () => {
  expect(readProfile('/nonexistent/profile.yaml')).toEqual({});
});

test('a profile becomes one entry per program, effect and path, and the paths that need answers', () => {
  const profile = parseProfile(`
programs:
  java:
    - allow: [stat, open]
      paths: [/etc/tomcat10/*.xml, /proc/self/stat]
      because: looks for changed files
    - calls: [sysinfo]
      because: asks for the load
  dnsmasq:
    - allow: [stat]
      paths: [/etc/resolv.conf]
      because: looks for changed name servers
`);
  const allow = compileProfile(profile);
  expect(allow).toEqual([
    { program: 'java', effect: 'stat', path: '/etc/tomcat10/*.xml' },
    { program: 'java', effect: 'open', path: '/etc/tomcat10/*.xml' },
    { program: 'java', effect: 'stat', path: '/proc/self/stat' },
    { program: 'java', effect: 'open', path: '/proc/self/stat' },
    { program: 'java', effect: 'call', call: 'sysinfo' },
    { program: 'dnsmasq', effect: 'stat', path: '/etc/resolv.conf' },
  ]);
  expect(answeredPaths(allow)).toEqual([
    { path: '/etc/tomcat10/*.xml', open: true },
    { path: '/etc/resolv.conf', open: false },
  ]);
});

test('all problems are reported at once, each with its line', () => {
  expect(
    problemsOf(`programs:
  java:
    - allow: [stat, write]
      paths: [etc/hosts, /etc/../x]
      because: ""
      then: what
    - calls: [execve]
      because: x
  a-name-that-is-too-long:
    - paths: [/x]
      because: x
`),
  ).toEqual([
    expect.stringMatching(/^x\.yaml:6: .*unknown key then/),
    expect.stringMatching(/^x\.yaml:3: .*got write: .*never what writes/),
    expect.stringMatching(/^x\.yaml:4: .*absolute path, got etc\/hosts/),
    expect.stringMatching(/^x\.yaml:4: .*“\.\.” components/),
    expect.stringMatching(/^x\.yaml:5: .*because/),
    expect.stringMatching(/^x\.yaml:7: .*got execve: /),
    expect.stringMatching(/^x\.yaml:10: .*at most 15 characters/),
    expect.stringMatching(/^x\.yaml:10: .*expected `allow`/),
    expect.stringMatching(/^x\.yaml:10: .*belong together/),
  ]);
});

describe('what is not a profile is refused', () => {
  test.each([
    ['', 'expected keys and values'],
    ['programs: []', 'expected keys and values'],
    ['program: {}', 'unknown key program'],
    ['programs: {a: [{allow: [stat], paths: [/sys/x], because: x}]}', 'the sink’s own'],
    ['programs: {a: [{allow: [stat], paths: [/var/tmp/x], because: x}]}', 'temporary'],
    ['programs: {a: [{allow: [stat], paths: [/dev/null], because: x}]}', 'the sink’s own'],
    ['programs: {a: [{allow: [stat], paths: [/proc/meminfo], because: x}]}', '/proc/self'],
    ['programs: {a: [{allow: [stat], paths: ["/*/x"], because: x}]}', 'last component'],
    ['programs: {a: [{allow: [stat], paths: ["/[ab]"], because: x}]}', 'brackets'],
    ['programs: {a: [{allow: [open], paths: [], because: x}]}', 'expected a list'],
    ['programs: {a: [{allow: [], paths: [/x], because: x}]}', 'expected a list'],
    ['programs: {a: 1}', 'expected a list of entries'],
    ['programs: {a: [{allow: [stat], paths: [/x]}]}', 'because'],
    ['programs: {a: [], a: []}', 'unique'],
    ['programs: {', 'line'],
  ])('%s: %s', (text, problem) =>
    expect(problemsOf(text).join('\n')).toMatch(problem === 'line' ? /:\d+: / : problem),
  );
});

describe('a pattern matches as the shell matches', () => {
  test.each([
    ['*', 'a', true],
    ['*', '.a', false],
    ['.*', '.a', true],
    ['*.xml', 'server.xml', true],
    ['*.xml', 'serverxxml', false],
    ['?b', 'ab', true],
    ['?b', 'b', false],
    ['a+(b)', 'a+(b)', true],
  ])('%s, %s: %s', (pattern, name, answer) => expect(matchesName(pattern, name)).toBe(answer));
});

const seen = (more: Partial<Observation>): Observation => ({
  ...{ program: 'java', pid: 7, syscall: 'newfstatat', rule: 'file.name', detail: 'newfstatat(…)' },
  ...{ count: 7, firstMs: 500, lastMs: 60_500 },
  ...more,
});
const report = (observations: Observation[]): ObservationReport => ({
  ...{ observations, processes: 2, threads: 40, calls: 1000, ms: 61_000 },
});

test('a proposal is a profile: reasons with count, period and example; what can’t be allowed is only told', () => {
  const text = proposeProfile(
    'vm1',
    'default',
    report([
      seen({
        effect: 'stat',
        path: '/etc/tomcat10/server.xml',
        detail: 'newfstatat(AT_FDCWD, "/etc/x", 0x1, 0)',
      }),
      seen({ effect: 'open', path: '/etc/tomcat10/server.xml', syscall: 'openat', count: 1, lastMs: 500 }),
      seen({ effect: 'read', path: '/etc/tomcat10/server.xml', syscall: 'read', count: 2 }),
      seen({ effect: 'call', path: '', syscall: 'sysinfo' }),
      seen({ effect: 'stat', path: '/dev/log' }),
      seen({ syscall: 'write', rule: 'descriptor.file', path: '/var/log/x', detail: 'write(3, 0x1, 9)' }),
      seen({ program: 'bash', syscall: 'clone', rule: 'process.create', detail: 'clone(SIGCHLD)' }),
    ]),
  );
  expect(parseProfile(text)).toEqual({
    java: [
      {
        allow: ['stat', 'open'],
        paths: ['/etc/tomcat10/server.xml'],
        calls: [],
        because: '7 times (every 10.0 s) while idle; for example newfstatat(AT_FDCWD, "/etc/x", 0x1, 0)',
      },
      { allow: [], paths: [], calls: ['sysinfo'], because: expect.stringContaining('7 times') },
    ],
  });
  expect(text).toContain('#   java: write(3, 0x1, 9): 7 times (every 10.0 s) (descriptor.file)');
  expect(text).toContain('#   bash: clone(SIGCHLD)');
  expect(text).toContain('#   java: newfstatat(…)');
});

test('nothing seen is nothing proposed', () => {
  const text = proposeProfile('vm1', 'default', report([]));
  expect(parseProfile(text)).toEqual({});
  expect(text).toContain('Nothing that these processes did');
});
