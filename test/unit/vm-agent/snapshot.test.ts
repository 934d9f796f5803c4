import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it, onTestFinished } from 'vitest';
import { parseMappings } from '../../../vm-agent/gateway/mappings.ts';
import { readProcess, unitOf } from '../../../vm-agent/gateway/snapshot.ts';
import { startStopwatch } from '../../../vm-agent/stopwatch.ts';

describe('a process', () => {
  it('is read with its parent, program and descriptors', async () => {
    const child = spawn('sleep', ['60'], { stdio: ['ignore', 'pipe', 'ignore'] });
    onTestFinished(() => void child.kill('SIGKILL'));
    await once(child, 'spawn');
    const found = readProcess(child.pid ?? -1);
    expect(found).toMatchObject({ pid: child.pid, parent: process.pid, program: 'sleep' });
    expect(found?.executable).toMatch(/sleep$/);
    expect(found?.descriptors).toContainEqual({ fd: 0, target: '/dev/null' });
  });

  it('is nothing when it is gone or a thread of the kernel', () => {
    expect(readProcess(2 ** 22 + 1)).toBeNull();
    expect(readProcess(2)).toBeNull();
  });

  it.each([
    ['/system.slice/ssh.service', 'ssh.service'],
    ['/user.slice/user-0.slice/session-1.scope', 'session-1.scope'],
    ['/user.slice/user-1000.slice/user@1000.service/app.slice/web.service', 'user@1000.service'],
    ['/system.slice/system-getty.slice/getty@tty1.service', 'getty@tty1.service'],
    ['/', '-.slice'],
  ])('in the cgroup %s belongs to %s', (cgroup, unit) => {
    expect(unitOf(cgroup)).toBe(unit);
  });
});

describe('mappings', () => {
  it('are one entry per file, with the rights of all its parts together', () => {
    const text = [
      '7f10-7f20 r--p 00000000 fe:00 12  /usr/lib/libc.so.6',
      '7f20-7f30 r-xp 00001000 fe:00 12  /usr/lib/libc.so.6',
      '7f30-7f40 rw-p 00002000 fe:00 12  /usr/lib/libc.so.6',
      '7f40-7f50 rw-p 00000000 00:00 0 ',
      '7f50-7f60 rw-p 00000000 00:00 0   [heap]',
    ].join('\n');
    expect(parseMappings(text)).toEqual([
      {
        path: '/usr/lib/libc.so.6',
        identity: 'fe:00:12',
        deleted: false,
        shared: false,
        writable: false,
        executable: true,
      },
    ]);
  });
});

describe('a stopwatch', () => {
  it('says how long each step took', () => {
    let now = 100;
    const watch = startStopwatch(() => now);
    now = 130;
    watch.lap('scan');
    now = 135.4;
    watch.lap('dump');
    expect(watch.steps).toEqual({ scan: 30, dump: 5 });
  });
});
