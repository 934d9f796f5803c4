import type { Surface, SurfaceRow } from '../../surface/main.ts';
import type { Section } from '../page.ts';
import type { Result } from '../results.ts';
import { table, verdict, whole } from './markdown.ts';

/** What issue 6 asks for. */
const P99_MS = 50;
const STREAMS = 500;

export function renderSurface({
  rows,
  ...about
}: Result<SurfaceRow> & Partial<Pick<Surface, 'vms' | 'startMs' | 'rssMiB'>>): Section {
  const { vms = Number.NaN, startMs = Number.NaN, rssMiB = Number.NaN } = about;
  const details = table(
    [
      'Request',
      'by',
      'a second',
      'streams',
      'median, ms',
      'p99, ms',
      'most, ms',
      'a flush of the disk: p99 (most)',
      'failed',
      'CPU',
      'waited for one',
      'p99 < 50 ms',
    ],
    rows.map((row) => [
      row.what === 'list' ? '`GET /v1/vms?limit=100`' : 'alarm, until 202',
      row.way,
      String(row.perSecond),
      String(row.streams),
      ...[row.p50Ms, row.p99Ms, row.mostMs].map((ms) => ms.toFixed(1)),
      row.flushes ? `${row.flushes.p99Ms.toFixed(1)} (${row.flushes.mostMs.toFixed(0)})` : '–',
      String(row.failed),
      `${row.cpuPercent} %`,
      `${row.waitedPercent} %`,
      verdict(row.p99Ms < P99_MS && row.failed === 0),
    ]),
  );
  const lists = rows.filter(({ what }) => what === 'list');
  const heard = lists.every(
    ({ streams, leastReceived, events }) => streams >= STREAMS && leastReceived === events,
  );
  const events = lists.map(({ events }) => events).join(' and ');
  return {
    markdown: `${details}\n\n${whole(vms)} registered VMs: the service answers ${(startMs / 1000).toFixed(1)} s after its process began and has ${whole(rssMiB)} MiB. ${STREAMS} event streams, each of which got each of ${events} events: ${verdict(heard)}. “Waited for one”: the share of the time in which the service could have run and had no processor, since the clients and whatever else is on the machine had them. An alarm’s 202 waits for its record to be on the disk: what a flush of one block beside the journal took meanwhile stands beside it.`,
    plots: {},
  };
}
