import { expect, it } from 'vitest';
import { waitedLocks } from '../../../vm-agent/gateway/locks.ts';

const LOCKS = `1: POSIX  ADVISORY  WRITE 1234 fe:00:5678 0 EOF
1: -> POSIX  ADVISORY  WRITE 1300 fe:00:5678 0 EOF
2: FLOCK  ADVISORY  WRITE 1235 00:1a:99 0 EOF
3: OFDLCK ADVISORY  WRITE -1 fe:00:77 0 EOF
3: -> OFDLCK ADVISORY  WRITE -1 fe:00:77 0 EOF
3: -> POSIX  ADVISORY  READ 1301 fe:00:77 0 9
`;

it('a lock that somebody waits for ties all together, found by PID or by descriptor; one that nobody waits for does not', () => {
  const holders: Record<string, number[]> = { 'fe:00:5678': [1234, 1236], 'fe:00:77': [1400] };
  const locks = waitedLocks(LOCKS, (file) => holders[file] ?? []);
  expect(locks).toEqual([
    { file: 'fe:00:5678', pids: [1234, 1300, 1236] },
    { file: 'fe:00:77', pids: [1301, 1400] },
  ]);
});

it('nobody is asked for descriptors while nobody waits', () => {
  expect(
    waitedLocks('1: FLOCK  ADVISORY  WRITE 7 fe:00:1 0 EOF\n', () => {
      throw new Error('asked');
    }),
  ).toEqual([]);
});
