/** The plumbing of the evaluation: one application, one run, on a native VM. Times are not judged: other tests share the machine. */
import { expect, test } from 'vitest';
import { table31 } from '../../../bench/evaluation/table-3.1.ts';

process.env['SEAMLESS_LAB'] = 'benchtest';
process.env['TERM'] = 'dumb';

test('a row of table 3.1 has ours, the baseline and the floor, each by a wake of its own', {
  timeout: 180_000,
}, async () => {
  const { rows } = await table31({ runs: 1, wakes: 1, only: ['openssh'], template: 'default' });
  const [row] = rows;
  expect(row?.application).toBe('OpenSSH');
  for (const key of [
    'dumpMs',
    'restoreMs',
    'responseMs',
    'baselineResponseMs',
    'floorMs',
    'sinkPssKiB',
  ] as const)
    expect(row?.[key], key).toBeGreaterThan(0);
  expect(row?.imageSentBytes).toBeLessThan(row?.imageRawBytes ?? 0);
  expect(Object.keys(row?.baselineSteps ?? {})).toEqual(
    expect.arrayContaining(['dump', 'pack', 'scp', 'unpack', 'restore']),
  );
});
