/** What a profile adds to the rules: only what looks, only at its paths, only for its programs. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { CALLS } from '../../../profiles/profile.ts';

const REPOSITORY = join(import.meta.dirname, '../../..');
const binary = join(REPOSITORY, 'build/sanitized/syscall-filter');
const LINES = [
  { program: 'java', effect: 'stat', path: '/etc/app/*.xml' },
  { program: 'java', effect: 'open', path: '/etc/app/*.xml' },
  { program: 'java', effect: 'deny', path: '/etc/app/large.xml' },
  { program: 'java', effect: 'stat', path: '/etc/app' },
  { program: 'java', effect: 'list', path: '/var/lib/webapps' },
  { program: 'java', effect: 'call', call: 'sysinfo' },
  { program: 'java', effect: 'open', path: '/proc/self/stat' },
  { program: 'dnsmasq', effect: 'stat', path: '/etc/resolv.conf' },
];
let folder: string;
let file: string;

beforeAll(async () => {
  await exec([join(REPOSITORY, 'scripts/build-helpers'), '--sanitize'], { timeoutMs: 110_000 });
  folder = await mkdtemp(join(tmpdir(), 'slf-profile-'));
  file = join(folder, 'allowed');
  await writeFile(file, LINES.map((line) => `${JSON.stringify(line)}\n`).join(''));
});

afterAll(() => rm(folder, { recursive: true }));

async function ruleOf(line: string): Promise<string> {
  const { stdout } = await exec([binary, '--allow', file, '--decide'], { input: `${line}\n` });
  return JSON.parse(stdout).rule;
}

/** A path in the caller's memory. */
function at(path: string): string {
  return `memory=0x1000:${Buffer.from(`${path}\0`.padEnd(256, '\0')).toString('hex')}`;
}

describe('a path that the profile names is answered', () => {
  test.each([
    [`newfstatat -100 0x1000 0 0 program=java ${at('/etc/app/a.xml')}`, 'profile'],
    [`newfstatat -100 0x1000 0 0 program=java ${at('//etc/./app//a.xml')}`, 'profile'],
    [`newfstatat -100 0x1000 0 0 program=java ${at('/etc/app')}`, 'profile'],
    [`newfstatat -100 0x1000 0 0 program=java ${at('/etc/app/')}`, 'profile'],
    [`newfstatat -100 0x1000 0 0 program=java path:-100=/etc ${at('app/a.xml')}`, 'profile'],
    [`newfstatat 5 0x1000 0 0 program=java path:5=/etc/app ${at('a.xml')}`, 'profile'],
    [`statx -100 0x1000 0 0 0 program=java ${at('/etc/app/a.xml')}`, 'profile'],
    [`access 0x1000 4 program=java ${at('/etc/app/a.xml')}`, 'profile'],
    [`faccessat2 -100 0x1000 4 0 program=java ${at('/etc/app/a.xml')}`, 'profile'],
    [`readlink 0x1000 0 9 program=java ${at('/etc/app/a.xml')}`, 'profile'],
    [`openat -100 0x1000 0x80000 program=java ${at('/etc/app/a.xml')}`, 'profile'],
    [`open 0x1000 0x800 program=java ${at('/etc/app/a.xml')}`, 'profile'],
    ['read 3 0 9 program=java 3=file path:3=/etc/app/a.xml', 'profile'],
    ['lseek 3 0 0 program=java 3=file path:3=/etc/app/a.xml', 'profile'],
    ['close 3 program=java 3=file path:3=/etc/app/a.xml', 'profile'],
    ['fstat 3 0 program=java 3=file path:3=/etc/app/a.xml', 'profile'],
    ['newfstatat 3 0x1000 0 0x1000 program=java 3=file path:3=/etc/app/a.xml memory=0x1000:00', 'profile'],
    ['ioctl 3 0x5401 0 program=java 3=file path:3=/etc/app/a.xml', 'profile'], // TCGETS
    ['sysinfo 0x1000 program=java', 'profile'],
    [`openat -100 0x1000 0 program=java pid=61 ${at('/proc/self/stat')}`, 'profile'],
    ['read 3 0 9 program=java pid=61 3=file path:3=/proc/61/stat', 'profile'], // as the kernel names it
  ])('%s', async (line, rule) => expect(await ruleOf(line)).toBe(rule));
});

describe('anything else is activity as before', () => {
  test.each([
    [`newfstatat -100 0x1000 0 0 program=bash ${at('/etc/app/a.xml')}`, 'file.name'],
    [`newfstatat -100 0x1000 0 0 program=java ${at('/etc/app/b/a.xml')}`, 'file.name'],
    [`newfstatat -100 0x1000 0 0 program=java ${at('/etc/app/.a.xml')}`, 'file.name'],
    [`newfstatat -100 0x1000 0 0 program=java ${at('/etc/app/../app/a.xml')}`, 'file.name'],
    [`newfstatat 5 0x1000 0 0 program=java ${at('a.xml')}`, 'file.name'], // no such directory
    [`newfstatat -100 0x1000 0 0 program=java ${at('')}`, 'file.name'],
    ['newfstatat -100 0x1000 0 0 program=java', 'file.name'], // unreadable
    [`openat -100 0x1000 0 program=dnsmasq ${at('/etc/resolv.conf')}`, 'file.open'], // only stat
    [`openat -100 0x1000 0 program=java ${at('/etc/app')}`, 'file.open'],
    [`openat -100 0x1000 0 program=java ${at('/etc/app/large.xml')}`, 'file.open'], // denied
    [`newfstatat -100 0x1000 0 0 program=java ${at('/etc/app/large.xml')}`, 'profile'],
    [`openat -100 0x1000 1 program=java ${at('/etc/app/a.xml')}`, 'file.open'], // O_WRONLY
    [`openat -100 0x1000 2 program=java ${at('/etc/app/a.xml')}`, 'file.open'], // O_RDWR
    [`openat -100 0x1000 0x40 program=java ${at('/etc/app/a.xml')}`, 'file.open'], // O_CREAT
    [`openat -100 0x1000 0x200 program=java ${at('/etc/app/a.xml')}`, 'file.open'], // O_TRUNC
    [`openat -100 0x1000 0x200000 program=java ${at('/etc/app/a.xml')}`, 'file.open'], // O_PATH
    [`openat2 -100 0x1000 0x2000 24 program=java ${at('/etc/app/a.xml')}`, 'file.open'],
    [`unlink 0x1000 program=java ${at('/etc/app/a.xml')}`, 'file.name'],
    [`execve 0x1000 0 0 program=java ${at('/etc/app/a.xml')}`, 'process.exec'],
    ['write 3 0 9 program=java 3=file path:3=/etc/app/a.xml', 'descriptor.file'],
    ['read 3 0 9 program=java 3=file path:3=/etc/app/large.xml', 'descriptor.file'],
    ['read 3 0 9 program=java 3=file path:3=/var/log/x', 'descriptor.file'],
    ['read 3 0 9 program=java 3=file', 'descriptor.file'], // open for writing too, or deleted
    ['read 3 0 9 program=java 3=external path:3=/etc/app/a.xml', 'descriptor.external'],
    ['mmap 0 4096 1 2 3 0 program=java 3=file path:3=/etc/app/a.xml', 'memory.file'],
    ['fcntl 3 6 0 program=java 3=file path:3=/etc/app/a.xml', 'descriptor.file'], // F_SETLK
    [`openat -100 0x1000 0x10000 program=java ${at('/etc/app')}`, 'file.open'], // O_DIRECTORY, not listed
    [`openat -100 0x1000 0x410000 program=java ${at('/var/lib/webapps')}`, 'file.open'], // O_TMPFILE
    [`openat -100 0x1000 0x10000 program=java ${at('/var/lib/webapps/a')}`, 'file.open'],
    [`openat -100 0x1000 0 program=java ${at('/var/lib/webapps')}`, 'file.open'], // as a file
    [`newfstatat -100 0x1000 0 0 program=java ${at('/var/lib/webapps/a')}`, 'file.name'],
    ['getdents64 3 0x2000 9 program=java 3=file path:3=/etc/app', 'descriptor.file'],
    ['getdents64 3 0x2000 9 program=bash 3=file path:3=/var/lib/webapps', 'descriptor.file'],
    ['read 3 0 9 program=java 3=file path:3=/var/lib/webapps', 'descriptor.file'],
    ['lseek 3 0 0 program=java 3=file path:3=/var/lib/webapps', 'descriptor.file'],
    ['sysinfo 0x1000 program=bash', 'system'],
    ['read 3 0 9 program=java pid=61 3=file path:3=/proc/62/stat', 'descriptor.file'],
  ])('%s', async (line, rule) => expect(await ruleOf(line)).toBe(rule));
});

test('a file that is not as the agent writes it is refused', async () => {
  for (const line of [
    '{"program":"java","effect":"write","path":"/x"}',
    '{"program":"java","effect":"stat","path":"x"}',
    '{"program":"java","effect":"call","call":"execve"}',
    '{"program":"java","effect":"stat","path":"/a\\\\b"}',
    '{"effect":"stat","path":"/x"}',
    '{"program":"a-name-that-is-too-long","effect":"stat","path":"/x"}',
  ]) {
    const bad = join(folder, 'bad');
    await writeFile(bad, `${line}\n`);
    await expect(exec([binary, '--allow', bad, '--decide'], { input: '' }), line).rejects.toMatchObject({
      details: { exitCode: 1 },
    });
  }
});

test('the schema of profiles and the filter know the same calls, and docs/activity.md names them', async () => {
  const { stdout } = await exec([binary, '--explain']);
  const { profile } = JSON.parse(stdout) as { profile: Record<string, string[]> };
  expect(Object.keys(profile).sort()).toEqual(['call', 'list', 'open', 'read', 'stat']);
  expect(profile['call']).toEqual([...CALLS]);
  const { stdout: page } = await exec(['cat', join(REPOSITORY, 'docs/activity.md')]);
  const section = page.split('## Profiles')[1]?.split('\n## ')[0] ?? '';
  for (const call of Object.values(profile).flat()) expect(section).toContain(`\`${call}\``);
});
