import { expect, test } from 'vitest';
import { judgeWake, type WakeEvidence } from '../../../../orchestrator/vm/wake-verdict.ts';
import type { GuestUsage } from '../../../../vm-agent/api.ts';
import { IDLE } from './driven.ts';

const LATER: GuestUsage = { ...IDLE, uptimeMs: IDLE.uptimeMs + 60_000 };

/** A VM that answered pings for ten minutes in its sink, was woken by a stat() and went on answering pings. */
const NOTHING: WakeEvidence = {
  rule: 'file.name',
  first: IDLE,
  last: LATER,
  releasedAtMs: 99_000,
  sentBytes: 60 * 98,
  sinkSentBytes: 600 * 98,
  parkedMs: 600_000,
  windowMs: 62_000,
};

const later = (change: Partial<GuestUsage>): Partial<WakeEvidence> => ({ last: { ...LATER, ...change } });

test('a wake after which the VM only did what its sink would have done is false, and says what was looked at', () => {
  expect(judgeWake(NOTHING)).toEqual({
    verdict: 'false',
    because: [
      'no process started or ended, CPU 0 ms of its gateway processes and 0 ms of others, 0.0 KiB written, 5.7 KiB sent',
    ],
  });
});

test.each<[string, Partial<WakeEvidence>, string]>([
  ['the call starts a process', { rule: 'process.create' }, 'the call that woke it starts a process'],
  [
    'a process was started and lives',
    later({ newest: { pid: 900, program: 'uptime', startedMs: 99_010 } }),
    'started uptime[900]',
  ],
  [
    'a gateway process reaped a child',
    later({ gateway: { cpuMs: 50, reaped: 1 } }),
    'its gateway processes ran others',
  ],
  [
    'another process reaped a child',
    later({ others: { cpuMs: 1000, reaped: 950 } }),
    'processes ran and ended',
  ],
  [
    'a gateway process worked',
    later({ gateway: { cpuMs: 700, reaped: 0 } }),
    'its gateway processes used 650 ms of CPU',
  ],
  [
    'another process worked',
    later({ others: { cpuMs: 2000, reaped: 900 } }),
    'other processes used 1000 ms of CPU',
  ],
  ['it wrote to disk', later({ writtenBytes: 4_000_000 }), 'wrote 2929.7 KiB to disk'],
  ['it sent an answer', { sentBytes: 60 * 98 * 1.5 + 1400 }, 'sent 1.1 KiB more than its sink would have'],
  [
    'it answered whom it woke for, and be it with a byte',
    later({ clientBytes: 1 }),
    'answered the client that woke it with 1 B',
  ],
  [
    'it answered whom it woke for, who has gone since',
    { first: { ...IDLE, clientBytes: 300 }, last: { ...LATER, clientBytes: null } },
    'answered the client that woke it with 300 B',
  ],
  ['it was restarted', later({ bootId: 'c', uptimeMs: 5000 }), 'the VM was started anew'],
])('the wake was needed when %s', (_what, change, because) => {
  expect(judgeWake({ ...NOTHING, ...change })).toEqual({ verdict: 'used', because: [because] });
});

test('what stays below the thresholds is nothing', () => {
  const small = later({
    gateway: { cpuMs: 50 + 600, reaped: 0 },
    others: { cpuMs: 1000 + 600, reaped: 900 },
    writtenBytes: IDLE.writtenBytes + 1024 * 1024,
    newest: { pid: 800, program: 'sshd', startedMs: 98_990 },
  });
  expect(judgeWake({ ...NOTHING, ...small, sentBytes: 60 * 98 + 500 }).verdict).toBe('false');
});

test('what can’t be read is no evidence of idleness, but never hides work', () => {
  expect(judgeWake({ ...NOTHING, last: null })).toEqual({
    verdict: 'unknown',
    because: ['the vm-agent did not answer'],
  });
  expect(judgeWake({ ...NOTHING, first: null }).verdict).toBe('unknown');
  expect(judgeWake({ ...NOTHING, sinkSentBytes: null })).toEqual({
    verdict: 'unknown',
    because: ['the switch did not say what the VM has sent'],
  });
  expect(judgeWake({ ...NOTHING, last: null, sentBytes: 1_000_000 }).verdict).toBe('used');
  expect(judgeWake({ ...NOTHING, sentBytes: null, rule: 'process.exec' }).verdict).toBe('used');
});

test('a sink that hardly lived says little about what is usual: its rate is spread over ten seconds', () => {
  const brief = { ...NOTHING, parkedMs: 100, sinkSentBytes: 1000, sentBytes: 5000 };
  expect(judgeWake(brief).verdict).toBe('false');
  expect(judgeWake({ ...brief, sentBytes: 20_000 }).verdict).toBe('used');
});

test('readings that go backwards are taken for nothing, not for work', () => {
  const back = later({
    gateway: { cpuMs: 0, reaped: 0 },
    others: { cpuMs: 0, reaped: 0 },
    writtenBytes: 0,
    newest: null,
  });
  expect(judgeWake({ ...NOTHING, ...back, sentBytes: 0 }).verdict).toBe('false');
});
