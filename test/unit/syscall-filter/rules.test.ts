/** The rules, asked without a process: `--explain` prints them, `--decide` tries them. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { exec } from '../../../common/exec.ts';

const REPOSITORY = join(import.meta.dirname, '../../..');
const binary = join(REPOSITORY, 'build/sanitized/syscall-filter');

interface Explanation {
  rules: { name: string; allowed: boolean; reason: string }[];
  calls: { name: string; nr: number; rule: string; byObject: boolean; signature: string }[];
}

let explanation: Explanation;

beforeAll(async () => {
  await exec([join(REPOSITORY, 'scripts/build-helpers'), '--sanitize'], { timeoutMs: 110_000 });
  explanation = JSON.parse((await exec([binary, '--explain'])).stdout);
});

/** The rule that answers for a call in a world, both as in explain.h. */
async function decide(line: string): Promise<{ rule: string; allowed: boolean; fd: number; shown: string }> {
  return JSON.parse((await exec([binary, '--decide'], { input: `${line}\n` })).stdout);
}

describe('a call on a descriptor is judged by what the descriptor is', () => {
  test.each([
    ['read 3 0 0 3=tcp', 'descriptor.inside'],
    ['write 3 0 0 3=pty', 'descriptor.inside'],
    ['write 3 0 0 3=pipe', 'descriptor.inside'],
    ['write 3 0 0 3=null', 'descriptor.inside'],
    ['write 3 0 0 3=file', 'descriptor.file'],
    ['write 3 0 0 3=external', 'descriptor.external'],
    ['write 3 0 0 3=peer-outside', 'descriptor.peer'],
    ['write 3 0 0 3=other', 'descriptor.kind'],
    ['write 3 0 0', 'descriptor.none'],
    ['close -1', 'descriptor.none'],
    ['close 3 3=file', 'descriptor.file'],
    ['dup2 3 4 3=tcp', 'descriptor.none'],
    ['dup2 3 4 3=tcp 4=udp', 'descriptor.inside'],
    ['dup2 3 4 3=tcp 4=external', 'descriptor.external'],
    ['write 3 0 8 3=eventfd', 'descriptor.inside'],
    ['recvfrom 3 0 9 2 0 0 3=tcp', 'descriptor.inside'], // MSG_PEEK
    ['splice 3 0 4 0 9 0 3=tcp 4=pipe', 'descriptor.inside'],
    ['splice 3 0 4 0 9 0 3=file 4=pipe', 'descriptor.file'],
    ['epoll_ctl 3 1 4 0 3=epoll 4=file', 'descriptor.file'],
    ['sendfile 3 4 0 9 3=tcp 4=file', 'descriptor.file'],
    ['epoll_ctl 3 1 4 0 3=epoll 4=tcp', 'descriptor.inside'],
    ['epoll_ctl 3 1 4 0 3=epoll 4=other', 'descriptor.kind'],
    ['read 3 0 9 3=inotify', 'descriptor.inside'],
    ['read 3 0 9 3=inotify readable=3', 'descriptor.file'],
    ['accept4 3 0 0 0 3=tcp-listener', 'connection.accept'],
    ['accept4 3 0 0 0 3=peer-outside', 'descriptor.peer'],
  ])('%s: %s', async (line, rule) => expect((await decide(line)).rule).toBe(rule));
});

describe('a request on a descriptor must be on its list', () => {
  test.each([
    ['ioctl 0 0x5402 0 0=pty', 'descriptor.inside'], // TCSETS
    ['ioctl 0 0x5412 0 0=pty', 'descriptor.request'], // TIOCSTI
    ['ioctl 0 0x5402 0 0=tcp', 'descriptor.request'],
    ['ioctl 0 0x5401 0 0=tcp', 'descriptor.inside'], // TCGETS: isatty()
    ['ioctl 0 0x5401 0 0=file', 'descriptor.file'],
    ['fcntl 3 1 0 3=tcp', 'descriptor.inside'],
    ['fcntl 3 4 0x2000 3=tcp', 'descriptor.request'], // F_SETFL, O_ASYNC
    ['fcntl 3 6 0 3=tcp', 'descriptor.request'], // F_SETLK
    ['setsockopt 3 6 1 0 4 3=tcp', 'descriptor.inside'], // TCP_NODELAY
    ['setsockopt 3 6 31 0 4 3=tcp', 'descriptor.request'], // TCP_ULP
    ['getsockopt 3 1 4 0 0 3=tcp', 'descriptor.inside'], // SO_ERROR
    ['getsockopt 3 1 77 0 0 3=unix', 'descriptor.request'], // SO_PEERPIDFD
    ['getsockopt 3 0 64 0 0 3=tcp', 'descriptor.request'], // IPT_SO_GET_INFO
    ['getsockopt 3 6 35 0 0 3=tcp', 'descriptor.request'], // TCP_ZEROCOPY_RECEIVE
    ['ioctl 3 0x541b 0 3=tcp', 'descriptor.inside'], // FIONREAD
    ['ioctl 3 0x5421 0 3=unix', 'descriptor.inside'], // FIONBIO
    ['ioctl 3 0x8910 0 3=udp', 'descriptor.inside'], // SIOCGIFNAME
    ['ioctl 3 0x8912 0 3=udp', 'descriptor.request'], // SIOCGIFCONF
    ['ioctl 3 0x8910 0 3=unix', 'descriptor.request'],
    ['setsockopt 3 1 2 0 4 3=tcp', 'descriptor.inside'], // SO_REUSEADDR
    ['sendto 3 0 0 0 0 0 3=unix', 'descriptor.inside'],
    ['sendto 3 0 0 0 0x1000 110 3=unix', 'descriptor.address'],
    ['sendto 3 0 0 0 0x1000 16 3=udp', 'descriptor.inside'],
    ['sendto 3 0 0 0x20000000 0 0 3=tcp', 'descriptor.address'], // MSG_FASTOPEN
    ['sendmsg 3 0x1000 0 3=tcp', 'descriptor.inside'],
    ['sendmsg 3 0x1000 0 3=unix', 'descriptor.address'], // its header can't be read
    [`sendmsg 3 0x1000 0 3=unix memory=0x1000:${'00'.repeat(56)}`, 'descriptor.inside'],
    [`sendmsg 3 0x1000 0 3=unix memory=0x1000:${'00'.repeat(40)}18${'00'.repeat(15)}`, 'descriptor.address'], // control data that can't be read
    [`sendmsg 3 0x1000 0 3=unix ${passing(1)} 5=tcp`, 'descriptor.inside'],
    [`sendmsg 3 0x1000 0 3=unix ${passing(1)} 5=file`, 'descriptor.address'],
    [`sendmsg 3 0x1000 0 3=unix ${passing(1)}`, 'descriptor.address'], // not open
    [`sendmsg 3 0x1000 0 3=unix ${passing(2)} 5=tcp`, 'descriptor.address'], // credentials
    [`sendmsg 3 0x1000 0 3=peer-outside ${passing(1)} 5=tcp`, 'descriptor.peer'],
    ['newfstatat 3 0x1000 0 0x1000 3=tcp memory=0x1000:00', 'descriptor.inside'],
    ['newfstatat 3 0x1000 0 0x1000 3=tcp memory=0x1000:2f', 'file.name'],
    ['newfstatat 3 0x1000 0 0 3=tcp memory=0x1000:00', 'file.name'],
    ['statx 3 0x1000 0x1000 0 0 3=tcp memory=0x1000:00', 'descriptor.inside'],
    ['statx 3 0x1000 0x1000 0 0 3=file memory=0x1000:00', 'descriptor.file'],
    ['statx -100 0x1000 0 0 0 memory=0x1000:2f00', 'file.name'],
  ])('%s: %s', async (line, rule) => expect((await decide(line)).rule).toBe(rule));
});

/** A message header at 0x1000 and control data of that type (SCM_…) with descriptor 5. */
function passing(type: number): string {
  const number = (value: number, bytes: number) => {
    const buffer = Buffer.alloc(bytes);
    buffer.writeUInt32LE(value);
    return buffer.toString('hex');
  };
  const header = [0, 0, 0, 0, 0x2000, 24, 0].map((value) => number(value, 8)).join('');
  const control = number(20, 8) + number(1, 4) + number(type, 4) + number(5, 8);
  return `memory=0x1000:${header} memory=0x2000:${control}`;
}

describe('processes, memory and strangers', () => {
  test.each([
    ['kill 5 15 pid=5', 'signal.set'],
    ['kill 6 15 pid=5 set=6', 'signal.set'],
    ['kill 6 0 pid=5 set=6', 'signal.set'],
    ['kill 6 9 pid=5 set=6', 'signal.outside'],
    ['kill 7 0 pid=5', 'signal.outside'],
    ['kill 0 15 pid=5', 'signal.outside'],
    ['kill -1 15 pid=5', 'signal.outside'],
    ['tgkill 5 6 10 pid=5 set=6', 'signal.set'],
    ['tgkill 7 6 10 pid=5 set=6', 'signal.outside'],
    ['prlimit64 0 7 0 0x1000', 'identity'],
    ['prlimit64 0 7 0x1000 0', 'process.state'],
    ['mmap 0 4096 3 0x22 -1 0', 'memory'],
    ['mmap 0 4096 3 1 3 0 3=file', 'memory.file'],
    ['mmap 0 0x200000 3 0x40022 -1 0', 'memory.file'], // MAP_HUGETLB
    ['mprotect 0x1000 4096 3', 'memory'],
    ['mprotect 0x1000 4096 3 maps=0x1000-0x3000', 'memory'],
    ['mprotect 0x1000 4096 3 maps-shared=0x1000-0x3000', 'memory.file'],
    ['mprotect 0x1000 4096 1 maps-shared=0x1000-0x3000', 'memory'],
    ['mprotect 0x3000 4096 3 maps-shared=0x1000-0x3000', 'memory'],
    ['mremap 0x2000 4096 8192 1 0 maps=0x1000-0x3000', 'memory.file'],
    ['mremap 0x3000 4096 8192 1 0 maps=0x1000-0x3000', 'memory'],
    ['madvise 0x1000 4096 4 maps=0x1000-0x3000', 'memory.file'],
    ['arch_prctl 0x1002 0x1000', 'memory'], // ARCH_SET_FS
    ['arch_prctl 0x1023 18', 'process.state'], // ARCH_REQ_XCOMP_PERM
    ['timer_create 1 0 0x1000', 'timer'],
    [
      `timer_create 1 0x2000 0x1000 memory=0x2000:${'00'.repeat(8)}0a00000000000000${'00'.repeat(48)}`,
      'timer',
    ],
    [
      `timer_create 1 0x2000 0x1000 memory=0x2000:${'00'.repeat(8)}0a00000009000000${'00'.repeat(48)}`,
      'descriptor.create',
    ],
    ['timer_create 3 0 0x1000', 'descriptor.create'], // CLOCK_THREAD_CPUTIME_ID
    ['getpriority 0 0', 'identity'],
    ['getpriority 0 7', 'system'],
    ['sysinfo 0x1000', 'system'],
    ['umask 022', 'identity'],
    ['getcwd 0x1000 99', 'identity'],
    ['madvise 0x1000 4096 4', 'memory'],
    ['madvise 0x1000 4096 9', 'memory.file'], // MADV_REMOVE
    ['prctl 15 0x1000', 'identity'],
    ['prctl 38 1', 'process.state'], // PR_SET_NO_NEW_PRIVS
    ['futex 0x1000 0 0', 'futex'],
    ['futex 0x1000 2 0', 'call.unknown'], // FUTEX_FD
    ['wait4 -1 0 0 0', 'wait.child'],
    ['clone 17', 'process.create'],
    ['io_uring_enter 3 1 1 0 0 0 3=other', 'file.async'],
    ['9999', 'call.unknown'],
    ['511', 'call.unknown'],
    ['512', 'call.unknown'],
    ['0x40000000', 'call.unknown'],
    ['foreign 3', 'call.foreign'],
  ])('%s: %s', async (line, rule) => expect((await decide(line)).rule).toBe(rule));
});

test('calls are shown with paths, flags, signals and addresses', async () => {
  const shown = async (line: string) => (await decide(line)).shown;
  expect(await shown('openat -100 0x1000 0x80241 0666 memory=0x1000:2f746d7000')).toBe(
    'openat(AT_FDCWD, "/tmp", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0666)',
  );
  expect(await shown('openat -100 0x1000 2 0777')).toBe('openat(AT_FDCWD, 0x1000, O_RDWR)');
  expect(await shown('clone 0x1200011')).toBe(
    'clone(CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD, 0, 0, 0, 0)',
  );
  expect(await shown('connect 3 0x1000 16 memory=0x1000:020000500a4d00010000000000000000')).toBe(
    'connect(3, 10.77.0.1:80, 16)',
  );
  expect(await shown('unlink 0x1000 memory=0x1000:61220a00')).toBe('unlink("a\\x22\\x0a")');
});

test('every call but the listed ones is activity', () => {
  const allowed = new Set(explanation.rules.filter((rule) => rule.allowed).map((rule) => rule.name));
  const fixed = explanation.calls.filter((call) => !call.byObject && allowed.has(call.rule));
  // What runs without a look at its objects. Think twice before this list grows.
  expect(fixed.map((call) => call.name).sort()).toMatchInlineSnapshot(`
    [
      "alarm",
      "brk",
      "capget",
      "clock_getres",
      "clock_gettime",
      "clock_nanosleep",
      "epoll_pwait",
      "epoll_pwait2",
      "epoll_wait",
      "get_robust_list",
      "getcpu",
      "getcwd",
      "getegid",
      "geteuid",
      "getgid",
      "getgroups",
      "getitimer",
      "getpgrp",
      "getpid",
      "getppid",
      "getrandom",
      "getresgid",
      "getresuid",
      "getrlimit",
      "getrusage",
      "gettid",
      "gettimeofday",
      "getuid",
      "membarrier",
      "mincore",
      "mlock",
      "munlock",
      "munmap",
      "nanosleep",
      "pause",
      "poll",
      "ppoll",
      "pselect6",
      "restart_syscall",
      "rseq",
      "rt_sigaction",
      "rt_sigpending",
      "rt_sigprocmask",
      "rt_sigreturn",
      "rt_sigsuspend",
      "rt_sigtimedwait",
      "sched_get_priority_max",
      "sched_get_priority_min",
      "sched_yield",
      "select",
      "set_robust_list",
      "set_tid_address",
      "setitimer",
      "sigaltstack",
      "time",
      "timer_delete",
      "timer_getoverrun",
      "timer_gettime",
      "timer_settime",
      "times",
      "umask",
      "uname",
      "wait4",
      "waitid",
    ]
  `);
});

test('docs/activity.md lists every rule with its reason and its calls', async () => {
  const page = await readFile(join(REPOSITORY, 'docs/activity.md'), 'utf8');
  const rows = new Map(
    [...page.matchAll(/^\| `([a-z.]+)` \| (.*?) \| (.*) \|$/gm)].map(([, name, reason, calls]) => [
      name,
      { reason, calls: calls ?? '' },
    ]),
  );
  expect([...rows.keys()].sort()).toEqual(explanation.rules.map((rule) => rule.name).sort());
  for (const rule of explanation.rules) expect(rows.get(rule.name)?.reason).toBe(rule.reason);
  for (const call of explanation.calls) {
    expect(rows.get(call.rule)?.calls).toContain(`\`${call.name}\`${call.byObject ? '\\*' : ''}`);
  }
  const [runs, wakes] = page.split('## What wakes the VM');
  for (const rule of explanation.rules) expect(rule.allowed ? runs : wakes).toContain(`| \`${rule.name}\` |`);
});
