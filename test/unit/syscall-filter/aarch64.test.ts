/** The rules on another processor: the whole filter compiles for aarch64, and decides there as here (qemu-user runs it; scripts/test installs both). */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { exec } from '../../../common/exec.ts';

const REPOSITORY = join(import.meta.dirname, '../../..');
const HERE = [join(REPOSITORY, 'build/syscall-observer')] as const;
const THERE = ['qemu-aarch64', join(REPOSITORY, 'build/aarch64/syscall-observer')] as const;
/** Calls that aarch64 never had: each has a younger one in its place. */
const OLD_CALLS =
  'access alarm arch_prctl chmod chown creat dup2 epoll_create epoll_wait eventfd fork getdents getpgrp inotify_init lchown link lstat mkdir mknod open pause pipe poll readlink rename rmdir select signalfd stat symlink time unlink utime utimes vfork';

interface Explanation {
  rules: unknown[];
  calls: { name: string; nr: number }[];
  profile: Record<string, string[]>;
}

describe('aarch64', () => {
  let folder: string;
  let allow: string;

  beforeAll(async () => {
    await exec([join(REPOSITORY, 'scripts/build-helpers')], { timeoutMs: 110_000 });
    await exec([join(REPOSITORY, 'scripts/build-helpers'), '--aarch64'], { timeoutMs: 110_000 });
    folder = await mkdtemp(join(tmpdir(), 'slf-arm-'));
    allow = join(folder, 'allowed');
    await writeFile(allow, '{"program":"java","effect":"open","path":"/etc/*.xml"}\n');
  });
  afterAll(() => rm(folder, { recursive: true }));

  const explain = async (argv: readonly [string, ...string[]]): Promise<Explanation> =>
    JSON.parse((await exec([...argv, '--explain'])).stdout);

  test('has the same rules for the same calls, less those that it never had', async () => {
    const [here, there] = [await explain(HERE), await explain(THERE)];
    expect(there.rules).toEqual(here.rules);
    const named = ({ calls }: Explanation) => new Map(calls.map(({ nr: _nr, ...call }) => [call.name, call]));
    const [ours, theirs] = [named(here), named(there)];
    expect([...ours.keys()].filter((name) => !theirs.has(name)).sort()).toEqual(OLD_CALLS.split(' '));
    for (const [name, call] of theirs) expect(call).toEqual(ours.get(name));
    expect(there.calls.find(({ name }) => name === 'openat')?.nr).toBe(56);
    expect(there.profile['read']).toEqual(here.profile['read']);
  });

  const path = Buffer.from('/etc/a.xml\0'.padEnd(256, '\0')).toString('hex');
  test.each([
    'read 3 0 9 3=tcp',
    'read 3 0 9 3=file',
    'write 3 0 9 3=peer-outside',
    'openat -100 0x1000 0',
    `openat -100 0x1000 0x80000 program=java memory=0x1000:${path}`,
    `openat -100 0x1000 0x80001 program=java memory=0x1000:${path}`,
    'read 3 0 9 program=java 3=file path:3=/etc/a.xml',
    'fcntl 3 1 0 3=tcp',
    'ioctl 3 0x541b 0 3=tcp',
    'ioctl 0 0x5412 0 0=pty',
    'setsockopt 3 6 1 0 4 3=tcp',
    'kill 6 0 pid=5 set=6',
    'mmap 0 4096 3 0x22 -1 0',
    'mprotect 0x1000 4096 3 maps-shared=0x1000-0x3000',
    'timer_create 1 0 0x1000',
    'accept4 3 0 0 0 3=tcp-listener',
    'clone 17',
    'getrandom 0 9 0',
    '9999',
    'foreign 3',
  ])('decides there as here: %s', async (line) => {
    const decide = async (argv: readonly [string, ...string[]]) =>
      JSON.parse((await exec([...argv, '--allow', allow, '--decide'], { input: `${line}\n` })).stdout);
    expect(await decide(THERE)).toEqual(await decide(HERE));
  });
});
