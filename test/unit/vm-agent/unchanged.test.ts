/** What a process did between the scan and its stop, and whether that matters. */
import { expect, test } from 'vitest';
import { changeOf, type Seen } from '../../../vm-agent/checkpoint/unchanged.ts';
import type { Mapping } from '../../../vm-agent/gateway/mappings.ts';
import type { Process } from '../../../vm-agent/gateway/snapshot.ts';

const FIFO = '/run/systemd/sessions/c5.ref';

function sshd(change: Partial<Process> = {}): Process {
  return {
    ...{ pid: 812, parent: 1, session: 812, startTime: 4711, program: 'sshd', executable: '/usr/sbin/sshd' },
    ...{ cgroup: '/system.slice/ssh.service', unit: 'ssh.service' },
    descriptors: [{ fd: 3, target: 'socket:[1347]' }],
    ...change,
  };
}

function mapping(path: string): Mapping {
  return {
    path,
    deleted: false,
    shared: false,
    writable: false,
    executable: true,
    identity: `fe:01:${path}`,
  };
}

function change(now: Partial<Process>, mappedNow: Mapping[] = [mapping('/lib/a.so')]): string | null {
  const seen: Seen = { before: sshd(), mappedBefore: [mapping('/lib/a.so')], now: sshd(now), mappedNow };
  return changeOf(seen);
}

test('a process that is as it was, or has only let go of something, has not changed', () => {
  expect(change({})).toBeNull();
  expect(change({ descriptors: [] })).toBeNull();
  expect(change({}, [])).toBeNull();
});

test('a session’s FIFO that a login has opened since is a change, and is named', () => {
  const descriptors = [
    { fd: 3, target: 'socket:[1347]' },
    { fd: 5, target: FIFO },
  ];
  expect(change({ descriptors })).toBe(`sshd[812] has opened ${FIFO}`);
});

test('another object under a known number, a new mapping and another process with that PID are changes', () => {
  expect(change({ descriptors: [{ fd: 3, target: 'socket:[99]' }] })).toBe(
    'sshd[812] has opened socket:[99]',
  );
  expect(change({}, [mapping('/lib/b.so')])).toBe('sshd[812] has mapped /lib/b.so');
  expect(change({ startTime: 4712 })).toBe('sshd[812] is another process by now');
});
