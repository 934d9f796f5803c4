/** The page of figures: what is not measured says so, what is measured is shown beside the paper and judged, and nothing is typed by hand. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { perGiB } from '../../../bench/evaluation/figure-3.2.ts';
import { renderPage } from '../../../bench/evaluation/page.ts';
import { paperFigure, paperTable31 } from '../../../bench/evaluation/paper.ts';
import { draw } from '../../../bench/evaluation/plots.ts';
import { PARTS, PIECES, type Result, readResult, withFormerRows } from '../../../bench/evaluation/results.ts';
import { judge } from '../../../bench/evaluation/switch.ts';
import type { Table31Row } from '../../../bench/evaluation/table-3.1.ts';
import { fit } from '../../../bench/evaluation/table-3.2.ts';

const DOCS = join(import.meta.dirname, '../../../docs');

const ROW: Table31Row = {
  application: 'OpenSSH',
  bed: 'native',
  runs: 3,
  dumpMs: 50,
  transferMs: 20,
  restoreMs: 60,
  totalMs: 150,
  responseMs: 140,
  baselineResponseMs: 700,
  floorMs: 90,
  imageRawBytes: 5_000_000,
  imageSentBytes: 200_000,
  sinkRssKiB: 17_000,
  sinkPssKiB: 5000,
  noticedMs: { p50: 8, p95: 9 },
  spread: {
    response: { median: 140, min: 120, max: 200, runs: 3 },
    baseline: { median: 700, min: 700, max: 700, runs: 1 },
    floor: { median: 90, min: 90, max: 90, runs: 1 },
  },
  outsideMs: { p50: 50, p95: 110 },
  parkMs: 500,
  baselineSteps: { dump: 60, pack: 10, scp: 400, unpack: 10, restore: 70 },
};

function result(part: Result['part'], rows: object[]): Result {
  const machine = { processor: 'a processor', cores: 2, memoryMiB: 1024, kernel: '6', loadBefore: 0.1 };
  return { part, at: '2026-01-02T03:04:05Z', machine, quick: false, seconds: 1, rows } as Result;
}

test('a part that was not measured says by which command it would be', () => {
  const { page, plots } = renderPage({});
  for (const part of PARTS) expect(page).toContain(`Not measured yet: \`scripts/bench ${part}\``);
  expect(plots).toEqual({});
});

test('a row stands beside the paper’s, is judged against what was to be reached, and is drawn', () => {
  const { page, plots } = renderPage({ 'table-3.1': result('table-3.1', [ROW]) });
  expect(page).toContain('| OpenSSH | 460 | 700 (700–700) | **140 (120–200)** | 90 (90–90) | 0.20 |');
  expect(page).toContain('At most 0.5 of the baseline: reached (1 of 1 applications)');
  expect(page).toContain('At most 40 ms over the floor: **not reached** (0 of 1)');
  expect(page).toContain('2026-01-02 03:04 UTC');
  expect(plots['table-3.1.svg']).toContain('<svg');
});

test('from swap is judged against from RAM on the same bed, and each bed is drawn by itself', () => {
  const row = (bed: string, method: string, ms: number, dummyRestore = true) => ({
    ...{ application: 'OpenSSH', bed, memoryMiB: 2048, method, dummyRestore, prefetch: true, responseMs: ms },
    ...{ residentMiB: 128, spread: { median: ms, min: ms, max: ms, runs: 1 } },
  });
  const rows = [
    ...[row('native', 'ram', 100), row('native', 'swap', 119), row('native', 'swap', 300, false)],
    ...[row('qemu', 'ram', 1000), row('qemu', 'disk', 9000), row('qemu', 'swap', 1300)],
  ];
  const { page, plots } = renderPage({ 'figure-3.1': result('figure-3.1', rows) });
  expect(page).toContain('native 2048 MiB 1.19 (reached), qemu 2048 MiB 1.30 (**not reached**)');
  expect(page).toContain('| OpenSSH | qemu | 2048 | suspend-to-disk | 9000 (9000–9000) | 128 | 1 |');
  expect(Object.keys(plots)).toEqual(['figure-3.1-native.svg', 'figure-3.1-qemu.svg']);
});

test('a neighbour is judged by what it feels of the way that is ours', () => {
  const row = (how: string, ratio: number) => ({
    ...{ how, kind: 'commit', p50Ms: 1, p99Ms: ratio, maxMs: 9, undisturbedP99Ms: 1, requests: 100, ratio },
    ...{ seconds: 5, leftMiB: 3 },
  });
  const told = { ...result('neighbour', [row('full speed', 9), row('madvise', 1.5)]), mib: 4096, goal: 2 };
  const { page } = renderPage({ neighbour: told });
  expect(page).toContain('at most 2 times its undisturbed one: reached');
  expect(page).toContain('| MADV_PAGEOUT, ours | commit | 1 | 1.5 | 9 | 1 | 1.50 | 5 | 3 |');
});

test('docs/performance.md is what the results in bench/results make of page.md', () => {
  const { page, plots } = renderPage(Object.fromEntries(PARTS.map((part) => [part, readResult(part)])));
  expect(readFileSync(join(DOCS, 'performance.md'), 'utf8')).toBe(page);
  for (const [file, svg] of Object.entries(plots)) expect(readFileSync(join(DOCS, file), 'utf8')).toBe(svg);
});

test('a plot is the same each time it is drawn', () => {
  const plot = {
    title: 't',
    kind: 'line',
    x: 'n',
    y: 'ms',
    series: [{ name: 's', points: [[1, 2]] }],
  } as const;
  expect(draw(plot)).toBe(draw(plot));
});

test('the paper’s figures are found by their names', () => {
  expect(paperTable31('Tomcat')?.['response_s']).toBe(2.16);
  expect(paperFigure('3.2', 'OpenSSH')).toBe(43);
  expect(paperFigure('3.3', 'no such')).toBeNull();
});

test('sizes that were not measured lie on the line through those that were', () => {
  expect(fit([1, 2, 4].map((gib) => ({ sizeMiB: gib * 1024, residentMiB: 100 + 10 * gib })))).toEqual({
    fixedMiB: 100,
    perGiBMiB: 10,
  });
  expect(fit([{ sizeMiB: 2048, residentMiB: 150 }])).toEqual({ fixedMiB: 150, perGiBMiB: 0 });
});

test('how many sinks fit is told by what each further one took', () => {
  const rows = [1, 11, 21].map((sinks) => ({ sinks, memoryMiB: 40 + 10 * sinks }));
  expect(perGiB(rows)).toBe(102);
});

test('what was held on purpose is no delay, and what overtook is out of order', () => {
  const told = { method: 'bundle + buffer', packetsPerSecond: 1000, sent: 5, flips: 1 } as const;
  // The second waited from 10 to 100, the third came before it, the fourth twice, the fifth never.
  const departures: [number, number][] = [
    [0, 0],
    [2, 5],
    [1, 20],
    [3, 110],
    [4, 111],
  ];
  const arrivals: [number, number][] = [
    [0, 1],
    [2, 50],
    [1, 101],
    [3, 111],
    [3, 112],
  ];
  const { row, p99 } = judge(departures, arrivals, told, [[10, 100]]);
  expect(row).toMatchObject({ lost: 1, duplicated: 1, reordered: 1 });
  expect(p99).toBeCloseTo(45, -1);
});

test('a run of some of the VMs leaves the rows of the others, marked with the run that they stem from', () => {
  const row = (memoryMiB: number, responseMs: number) => ({
    application: 'OpenSSH',
    bed: 'qemu',
    memoryMiB,
    responseMs,
  });
  const former = result('figure-3.1', [row(1024, 1), row(1024, 2), row(2048, 3)]) as Result<
    ReturnType<typeof row>
  >;
  const run = { at: former.at, loadBefore: 0.1, quick: false };
  const rows = withFormerRows([row(2048, 4)], former);
  expect(rows).toEqual([{ run, ...row(1024, 1) }, { run, ...row(1024, 2) }, row(2048, 4)]);
  const again = withFormerRows([row(4096, 5)], { ...former, at: '2026-02-02T03:04:05Z', rows });
  expect(again.map((each) => each.run?.at)).toEqual([
    former.at,
    former.at,
    '2026-02-02T03:04:05Z',
    undefined,
  ]);
});

test('a run of one application leaves the rows of the others where they were', () => {
  const row = (application: string, memoryMiB: number) => ({ application, memoryMiB });
  const formerRows = [row('OpenSSH', 5), row('OpenSSH', 9), row('Apache2/PHP', 7)];
  const former = result('figure-3.2', formerRows) as Result<ReturnType<typeof row>>;
  const rows = withFormerRows([row('OpenSSH', 4)], former, PIECES['figure-3.2']);
  expect(rows).toMatchObject([row('OpenSSH', 4), row('Apache2/PHP', 7)]);
  expect(rows.map((each) => each.run?.at)).toEqual([undefined, former.at]);
});

test('a run that ends between the parts of figure 3.3 leaves the former rows of the part that it has not come to', () => {
  const row = (part: string, n: number, responseMsMax: number) => ({
    ...{ application: 'OpenSSH', part, n, responseMsMax },
  });
  const formerRows = [row('sink', 1, 10), row('sink', 50, 20), row('whole', 1, 30), row('whole', 20, 40)];
  const former = result('figure-3.3', formerRows) as Result<ReturnType<typeof row>>;
  const rows = withFormerRows([row('sink', 1, 5)], former, PIECES['figure-3.3']);
  expect(rows).toMatchObject([row('sink', 1, 5), row('whole', 1, 30), row('whole', 20, 40)]);
  expect(rows.map((each) => each.run?.at)).toEqual([undefined, former.at, former.at]);
});
