import type { NeighbourRow } from '../../parking-neighbour.ts';
import type { FilterRow } from '../others.ts';
import type { Section } from '../page.ts';
import type { Result } from '../results.ts';
import { table, verdict } from './markdown.ts';

/** Aims for each row of the filter's: microseconds a call, and of the idle daemon's what the filter adds. */
const CALL_US = 60;
const IDLE_PERCENT = 0.02;

export function renderFilter({ rows }: Result<FilterRow>): Section {
  const number = (value: number) => value.toFixed(value < 0.1 ? 3 : 1);
  const markdown = table(
    ['', 'untraced', 'under the filter', 'aim'],
    rows.map(({ what, unit, untraced, traced }) => {
      const aim = unit === 'µs' ? `≤ ${CALL_US} µs` : `≤ ${IDLE_PERCENT} % more`;
      const reached = unit === 'µs' ? traced <= CALL_US : traced - untraced <= IDLE_PERCENT;
      return [
        what,
        `${number(untraced)} ${unit}`,
        `${number(traced)} ${unit}`,
        `${aim}: ${verdict(reached)}`,
      ];
    }),
  );
  return { markdown, plots: {} };
}

export function renderNeighbour({ rows, mib, goal }: Result<NeighbourRow>): Section {
  const judged = rows.filter(({ how }) => how === 'madvise').every(({ ratio }) => ratio <= Number(goal));
  const details = table(
    [
      'way',
      'request',
      'p50, ms',
      'p99, ms',
      'most, ms',
      'undisturbed p99, ms',
      'ratio',
      'seconds',
      'left, MiB',
    ],
    rows.map((row) => [
      WAYS[row.how],
      row.kind,
      String(row.p50Ms),
      String(row.p99Ms),
      String(row.maxMs),
      String(row.undisturbedP99Ms),
      row.ratio.toFixed(2),
      String(row.seconds),
      String(row.leftMiB),
    ]),
  );
  const markdown = `${mib} MiB. The neighbour's p99 at most ${goal} times its undisturbed one: ${verdict(judged)}.\n\n${details}`;
  return { markdown, plots: {} };
}

const WAYS: Readonly<Record<NeighbourRow['how'], string>> = {
  'full speed': 'cgroup limit, full speed',
  'our pace': 'cgroup limit, with rests',
  madvise: 'MADV_PAGEOUT, ours',
};

const GOALS = [
  { key: 'roundMs', what: 'one decision round, ms', goal: 1000 },
  { key: 'roundCpuMs', what: 'of it processor time, ms', goal: null },
  { key: 'rssMiB', what: 'memory of the process with all histories, MiB', goal: 400 },
  { key: 'eventLoopDelayP99Ms', what: 'event-loop delay, 99th percentile, ms', goal: 50 },
] as const;

export function renderIdleScale({ rows: [row = {}] }: Result<Record<string, number>>): Section {
  const markdown = table(
    ['', 'measured', 'goal'],
    GOALS.map(({ key, what, goal }) => {
      const value = row[key] ?? Number.NaN;
      return [what, String(value), goal === null ? '' : `< ${goal}: ${verdict(value < goal)}`];
    }),
  );
  return { markdown, plots: {} };
}
