import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { METERS } from '../../../../orchestrator/idle/signals.ts';
import { CSV_HEADER, csvRows, readCsv } from '../../../../orchestrator/idle/simulate/csv.ts';
import { generateVm } from '../../../../orchestrator/idle/simulate/generate.ts';
import { replay } from '../../../../orchestrator/idle/simulate/replay.ts';
import { POLICY } from './histories.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'seamless-trace-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const HEADER = 'vm,time,seconds,memoryMiB,cpu,network,disk,sessions,jobs,load,dirty';
const row = (vm: string, time: number | string, seconds: number | string = 10, meters = '1,0,0,0,0,0,0') =>
  `${vm},${time},${seconds},2048,${meters}`;

function traceOf(...lines: string[]) {
  const path = join(folder, 'trace.csv');
  writeFileSync(path, lines.join('\n'));
  return readCsv(path);
}

test('what was generated, written and read again is the same to a policy', async () => {
  for (const index of [0, 3, 7, 11, 25]) {
    const trace = generateVm(9, index, 10);
    const [read, ...others] = await traceOf(CSV_HEADER, ...csvRows(trace), '');
    expect(others).toEqual([]);
    expect(read).toMatchObject({
      name: trace.name,
      fromMs: trace.fromMs,
      toMs: trace.toMs,
      probes: trace.probes,
    });
    expect(read && replay(read, { ...POLICY, forecast: 'wake' })).toEqual(
      replay(trace, { ...POLICY, forecast: 'wake' }),
    );
  }
});

test('rows of several VMs may be mixed, times may be ISO 8601, lines may end as on Windows', async () => {
  const [a, b] = await traceOf(
    `\uFEFF${HEADER}\r`,
    `${row('a', 1000)}\r`,
    `${row('b', '2026-01-05T00:00:00Z')}\r`,
    `${row('a', 1010)}\r`,
    '',
    row('b', '2026-01-05T00:00:10Z', 10, '1,500,0,0,0,0,0'),
  );
  // Equal rows are one stretch.
  expect(a?.stretches).toMatchObject([{ fromMs: 1_000_000, toMs: 1_020_000, busy: false, requests: 0 }]);
  expect(b?.stretches).toMatchObject([{ busy: false }, { busy: true, requests: 1 }]);
});

test('an empty cell is not known, and neither is time without a row', async () => {
  const [trace] = await traceOf(HEADER, row('a', 1000, 10, ',0,0,0,0,0,0'), row('a', 1100));
  const cpu = trace?.stretches.map(({ values }) => values[METERS.indexOf('cpu')]);
  expect(cpu).toEqual([Number.NaN, Number.NaN, 1]);
});

describe('a clear error, with its line, for a trace that is', () => {
  test.each([
    ['empty', [''], /trace.csv:1: expected the header vm,time.*got an empty file/],
    ['without samples', [HEADER], /trace.csv:1: expected samples after the header, got none/],
    ['without a header', [row('a', 1000)], /trace.csv:1: expected the columns .*missing: vm, time/],
    ['without a column', [HEADER.replace(',disk', ''), 'a,1000'], /missing: disk/],
    ['with an unknown column', [`${HEADER},colour`, row('a', 1)], /unknown: colour/],
    ['with a column twice', [`${HEADER},cpu`, row('a', 1)], /twice: cpu/],
    [
      'cut off',
      [HEADER, row('a', 1000), 'a,1010,10,20'],
      /trace.csv:3: expected 11 columns, got 4; the file may be cut off/,
    ],
    ['too wide', [HEADER, `${row('a', 1000)},1`], /trace.csv:2: expected 11 columns, got 12$/],
    [
      'unsorted',
      [HEADER, row('a', 1000), row('b', 5), row('a', 990)],
      /trace.csv:4: expected the samples of a in the order of time.*line 2/,
    ],
    ['overlapping', [HEADER, row('a', 1000), row('a', 1009)], /trace.csv:3: expected the samples of a/],
    [
      'negative',
      [HEADER, row('a', 1000, 10, '-1,0,0,0,0,0,0')],
      /trace.csv:2: cpu: expected a number from 0 to 100, got "-1"/,
    ],
    [
      'huge',
      [HEADER, row('a', 1000, 10, '1,1e300,0,0,0,0,0')],
      /trace.csv:2: network: expected a number from 0 to/,
    ],
    ['nonsense', [HEADER, row('a', 1000, 10, 'NaN,0,0,0,0,0,0')], /trace.csv:2: cpu: expected a number/],
    ['of no length', [HEADER, row('a', 1000, 0)], /trace.csv:2: seconds: expected more than 0/],
    ['of no time', [HEADER, row('a', 'yesterday')], /trace.csv:2: time: expected ISO 8601 or seconds/],
    [
      'in milliseconds',
      [HEADER, row('a', 1_767_571_200_000)],
      /trace.csv:2: time: expected ISO 8601 or seconds/,
    ],
    ['of no VM', [HEADER, row('', 1000)], /trace.csv:2: vm: expected a name/],
  ])('%s', async (_name, lines, message) => {
    await expect(traceOf(...lines)).rejects.toMatchObject({
      code: 'REQUEST_INVALID',
      message: expect.stringMatching(message),
    });
  });

  test('not there', async () => {
    await expect(readCsv(join(folder, 'none.csv'))).rejects.toMatchObject({
      code: 'REQUEST_INVALID',
      message: expect.stringMatching(/Expected a trace at .*none.csv: ENOENT/),
    });
  });
});
