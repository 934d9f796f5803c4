import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { interval, readReport } from '../../../../orchestrator/idle/sample.ts';
import { METERS } from '../../../../orchestrator/idle/signals.ts';
import { nextRun, parseCrontab, parseSchedule } from '../../../../vm-agent/sample/crontab.ts';
import { parseLease } from '../../../../vm-agent/sample/lease.ts';
import { BusyMeter, LoadMeter } from '../../../../vm-agent/sample/load.ts';
import { busyTime, createSampler, dirtiedBytes, isFiring } from '../../../../vm-agent/sample/sample.ts';
import {
  jobsOf,
  sessionsOf,
  sinceTyped,
  type TerminalProcess,
  terminalName,
} from '../../../../vm-agent/sample/terminals.ts';
import { parseTimerList, plansStamp, readAtJobs } from '../../../../vm-agent/sample/timers.ts';
import { isWaiting } from '../../../../vm-agent/sample/waiting.ts';

const PTS0 = (136 << 8) | 0;

function process(pid: number, program: string, more: Partial<TerminalProcess> = {}): TerminalProcess {
  return {
    pid,
    program,
    parent: 1,
    processGroup: pid,
    terminal: 0,
    foreground: -1,
    isWaiting: () => true,
    ...more,
  };
}
const jobs = (
  processes: TerminalProcess[],
  units: string[] = [],
  unitOf = (_pid: number): string | null => null,
) => jobsOf(processes, new Set(units), unitOf);

describe('a foreground job', () => {
  const shell = process(10, 'bash', { terminal: PTS0, foreground: 10 });

  test('is none while a shell waits for input', () => {
    expect(jobs([shell])).toEqual([]);
  });

  test('is what runs in the foreground, not in the background, and not an editor that waits for a key', () => {
    const inFront = (pid: number, program: string, isWaitingNow: boolean) =>
      process(pid, program, {
        parent: 10,
        terminal: PTS0,
        foreground: 11,
        processGroup: 11,
        isWaiting: () => isWaitingNow,
      });
    const behind = { ...shell, foreground: 11 };
    expect(jobs([behind, inFront(11, 'make', true), inFront(12, 'cc1', false)])).toEqual(['cc1']);
    expect(jobs([behind, inFront(11, 'vim', true)])).toEqual([]);
    expect(jobs([shell, { ...inFront(11, 'make', false), foreground: 10 }])).toEqual([]);
  });

  test('is also what cron, at or a timer have started, as long as it runs', () => {
    const all = [
      process(5, 'cron'),
      process(6, 'cron', { parent: 5 }),
      process(7, 'sh', { parent: 6 }),
      process(8, 'backup'),
    ];
    expect(jobs(all)).toEqual(['sh']);
    expect(jobs(all, ['backup.service'], (pid) => (pid === 8 ? 'backup.service' : null))).toEqual([
      'sh',
      'backup',
    ]);
  });
});

test('a session is a terminal that processes have, with the time since somebody typed', () => {
  const all = [
    process(1, 'systemd'),
    process(10, 'bash', { terminal: PTS0 }),
    process(11, 'vim', { terminal: PTS0 }),
    process(12, 'agetty', { terminal: (4 << 8) | 64 }),
    process(13, 'bash', { terminal: (136 << 8) | 9 }),
  ];
  const idle: Record<string, number> = { 'pts/0': 1500, ttyS0: -20 };
  expect(sessionsOf(all, (terminal) => idle[terminal] ?? null)).toEqual([
    { terminal: 'pts/0', idleMs: 1500 },
    { terminal: 'ttyS0', idleMs: 0 },
  ]);
  expect([(4 << 8) | 1, (137 << 8) | 3, (229 << 8) | 0, 0].map(terminalName)).toEqual([
    'tty1',
    'pts/259',
    'hvc0',
    null,
  ]);
});

test('what is typed within the same eight seconds as before leaves no trace, so their end counts', () => {
  const second = 1_800_000_003_000; // three seconds into its eight
  expect(second % 8000).toBe(3000);
  expect(sinceTyped(second, second + 1000)).toBe(0);
  expect(sinceTyped(second, second + 5000)).toBe(0);
  expect(sinceTyped(second, second + 6500)).toBe(1500);
  expect(sinceTyped(second + 5000, second + 6500)).toBe(0);
});

test.each([
  ['read', '0 0x0 0x7ffd 0x1 0x0 0x0 0x0 0x7ffd 0x7f', true],
  ['wait4', '61 0xffffffffffffffff 0x7ffd 0xa 0x0 0x0 0x0 0x7ffd 0x7f', true],
  ['poll without a timeout', '7 0x55d 0x2 0xffffffff 0x0 0x0 0x0 0x7ffd 0x7f', true],
  ['poll for a second', '7 0x55d 0x2 0x3e8 0x0 0x0 0x0 0x7ffd 0x7f', false],
  ['epoll_wait without a timeout', '232 0x5 0x7f 0x40 0xffffffffffffffff 0x0 0x0 0x7ffd 0x7f', true],
  ['pselect6 without a timeout', '270 0x1 0x7ffd 0x0 0x0 0x0 0x7ffd 0x7ffd 0x7f', true],
  ['pselect6 with one', '270 0x1 0x7ffd 0x0 0x0 0x7ffe 0x7ffd 0x7ffd 0x7f', false],
  ['futex with one', '202 0x7f 0x80 0x0 0x7ffd 0x0 0x0 0x7ffd 0x7f', false],
  ['clock_nanosleep', '230 0x0 0x0 0x7ffd 0x7ffd 0x0 0x0 0x7ffd 0x7f', false],
  ['running', 'running\n', false],
  ['blocked outside a call', '-1 0x7ffd 0x7f', false],
  ['nothing', '', false],
])('a thread in %s waits for others: %s → %s', (_name, text, expected) => {
  expect(isWaiting(text)).toBe(expected);
});

describe('a crontab', () => {
  const at = (text: string) => new Date(text).getTime(); // in the test's own time zone, as cron
  const next = (expression: string, from: string) => {
    const schedule = parseSchedule(expression);
    return schedule && nextRun(schedule, at(from));
  };

  test.each([
    ['17 * * * *', '2026-01-05T10:17:00', '2026-01-05T11:17:00'],
    ['25 6 * * *', '2026-01-05T06:24:59', '2026-01-05T06:25:00'],
    ['*/15 9-17 * * mon-fri', '2026-01-09T17:50:00', '2026-01-12T09:00:00'],
    ['0 0 1 jan *', '2026-01-05T00:00:00', '2027-01-01T00:00:00'],
    ['0 0 29 2 *', '2026-01-05T00:00:00', '2028-02-29T00:00:00'],
    ['0 12 13 * 5', '2026-01-05T00:00:00', '2026-01-09T12:00:00'],
    ['5,10-12/2 3 * * 7', '2026-01-05T00:00:00', '2026-01-11T03:05:00'],
  ])('%s after %s is at %s', (expression, from, expected) => {
    expect(next(expression, from)).toBe(at(expected));
  });

  test('that never runs has no next time', () => {
    expect(next('0 0 31 2 *', '2026-01-05T00:00:00')).toBeNull();
  });

  test('may have comments, variables, @daily and @reboot; a line that is none makes all unknown', () => {
    const text = '# x\nSHELL=/bin/sh\n\n@reboot root a\n@daily root b\n17 *\t* * *\troot cd /\n';
    expect(parseCrontab(text)).toHaveLength(2);
    for (const wrong of ['61 * * * * a', '* * * a', '5-1 * * * * a', '*/0 * * * * a', '@often a', 'hello']) {
      expect(parseCrontab(`${text}${wrong}\n`), wrong).toBeNull();
    }
  });
});

test('timers of systemd, jobs of at, and a DHCP lease are read as their tools write them', () => {
  const json =
    '[{"next":1767594000000000,"left":1,"last":0,"passed":0,"unit":"a.timer","activates":"a.service"},{"next":0,"unit":"b.timer","activates":"b.service"}]';
  const list = parseTimerList(json);
  expect(list?.timers).toEqual([{ name: 'a.timer', atMs: 1_767_594_000_000 }]);
  expect([...(list?.scheduledUnits ?? [])]).toEqual(['a.service', 'b.service']);
  expect(list?.isPending).toBe(true);
  const inactive = '[{"next":null,"left":null,"last":0,"passed":0,"unit":"c.timer","activates":null}]';
  expect(parseTimerList(inactive)).toEqual({ timers: [], scheduledUnits: new Set(), isPending: false });
  for (const wrong of ['', '{}', '[{}]']) expect(parseTimerList(wrong)).toBeNull();

  const root = mkdtempSync(join(tmpdir(), 'seamless-at-'));
  onTestFinished(() => rmSync(root, { recursive: true }));
  expect(readAtJobs(root)).toEqual([]);
  mkdirSync(join(root, 'var/spool/cron/atjobs'), { recursive: true });
  for (const name of ['a0000501c18b6c', '.SEQ', '=0000501c18b6c'])
    writeFileSync(join(root, 'var/spool/cron/atjobs', name), '');
  expect(readAtJobs(root)).toEqual([{ name: 'at:5', atMs: 0x1c18b6c * 60_000 }]);
  const stamp = plansStamp(root);
  expect(plansStamp(root)).toBe(stamp);
  rmSync(join(root, 'var/spool/cron/atjobs/a0000501c18b6c'));
  expect(plansStamp(root)).not.toBe(stamp);

  const address = (more: object) =>
    JSON.stringify([{ addr_info: [{ local: '127.0.0.1', valid_life_time: 4294967295 }, more] }]);
  expect(parseLease(address({ dynamic: true, valid_life_time: 3000 }), 1000)).toEqual({
    expiresMs: 3_001_000,
  });
  expect(parseLease(address({ valid_life_time: 4294967295 }), 1000)).toBeNull();
});

test('load is what others than gateway processes have done since, whoever comes into the gateway set, leaves it, or ends', () => {
  const meter = new LoadMeter();
  const read = (times: Record<number, number>, ...gateway: number[]) =>
    meter.read(
      Object.entries(times).map(([pid, cpuMs]) => ({ pid: Number(pid), cpuMs })),
      new Set(gateway),
    );
  expect(read({ 1: 500, 10: 100, 20: 900 }, 20)).toBe(0);
  expect(read({ 1: 510, 10: 130, 20: 999 }, 20)).toBe(40);
  // A session that was not known to be a gateway process yet, then ends.
  expect(read({ 1: 510, 10: 130, 20: 999, 30: 50 }, 20)).toBe(90);
  expect(read({ 1: 510, 10: 130, 20: 999, 30: 70 }, 20, 30)).toBe(90);
  expect(read({ 1: 520, 10: 130, 20: 1069 }, 20)).toBe(100);
  // A child of 10 that worked for 200 ms has come and gone; then 10 is reaped by 1.
  expect(read({ 1: 520, 10: 330, 20: 1069 }, 20)).toBe(300);
  expect(read({ 1: 850, 20: 1069 }, 20)).toBe(300);
  // Whoever nobody reaps takes its time along.
  expect(read({ 1: 100, 20: 1069 }, 20)).toBe(300);
});

test('the machine is as busy as its table or its processes say, and owes nothing when these differ', () => {
  const meter = new BusyMeter();
  expect(meter.read(1000, 5000)).toBe(0);
  // By its ticks the agent did more than there was.
  expect(meter.read(1010, 4000)).toBe(10);
  expect(meter.read(1010, 4100)).toBe(110);
  expect(meter.read(400, 4100)).toBe(110);
  expect(meter.read(450, 4100)).toBe(160);
});

test('counters are read from the kernel’s tables', () => {
  expect(busyTime('cpu  100 10 50 9000 800 5 5 70 20 0\ncpu0 1 1 1 1\n')).toBe(1700);
  expect(dirtiedBytes('nr_dirtied 3\nnr_written 4\n')).toBe(12_288);
  expect(dirtiedBytes('')).toBeNaN();
});

test('two samples of this very machine are an interval that the orchestrator believes', async () => {
  const sampler = createSampler(async () => new Set([1]));
  const read = async () => {
    const sample = await sampler.sample();
    const told: unknown = JSON.parse(JSON.stringify(sample));
    return readReport(told, { payloadBytes: 0 }, { dirtyRate: 'none' }, Date.now(), performance.now());
  };
  const before = await read();
  await expect.poll(() => performance.now() - before.monotonicMs).toBeGreaterThan(300);
  const sample = interval(before, await read());
  const unknown = METERS.filter((_, index) => !Number.isFinite(sample?.values[index]));
  expect(unknown).toEqual([]);
});

test('timers are asked for again from the moment one is due until it has another time, but not for ever', () => {
  const now = 1_000_000_000;
  const due = (atMs: number) => isFiring([{ name: 'a.timer', atMs }], now);
  expect([due(now + 1), due(now), due(now - 60_000), due(now - 3_600_000)]).toEqual([
    false,
    true,
    true,
    false,
  ]);
  expect(isFiring([], now)).toBe(false);
  expect(isFiring(null, now)).toBe(true);
});
