import type { Figure32Row } from '../figure-3.2.ts';
import type { Section } from '../page.ts';
import { paperFigure } from '../paper.ts';
import type { Result } from '../results.ts';
import { table, verdict, whole } from './markdown.ts';

/** What issue 4 asks for. */
const WANTED: Record<string, number> = { OpenSSH: 200, 'Apache2/PHP': 60 };
const IDLE_PERCENT = 0.02;

export function renderFigure32(
  result: Result<Figure32Row> & { sinksPerGiB?: Record<string, number> },
): Section {
  const { rows, sinksPerGiB = {} } = result;
  const density = table(
    ['Application', 'paper, sinks per GB', 'ours, sinks per GiB', 'wanted'],
    Object.entries(sinksPerGiB).map(([application, sinks]) => {
      const wanted = WANTED[application];
      const aim = wanted === undefined ? '' : `≥ ${wanted}: ${verdict(sinks >= wanted)}`;
      return [application, whole(paperFigure('3.2', application) ?? Number.NaN), `**${whole(sinks)}**`, aim];
    }),
  );
  const details = table(
    [
      'Application',
      'sinks',
      'memory, MiB',
      'processes',
      'images and files',
      'kernel',
      'swapped',
      'CPU, % of a core',
      'a sink',
    ],
    rows.map(({ application, sinks, memoryMiB, cpuPercent, parts }) => [
      application,
      String(sinks),
      ...[memoryMiB, parts.anonymousMiB, parts.imagesMiB, parts.kernelMiB, parts.swappedMiB].map(whole),
      cpuPercent.toFixed(2),
      `${(cpuPercent / sinks).toFixed(4)} %`,
    ]),
  );
  const each = [...new Set(rows.map(({ application }) => application))];
  const last = each.flatMap((name) => rows.findLast(({ application }) => application === name) ?? []);
  const idle = last.map(({ application, cpuPercent, sinks }) => {
    const percent = cpuPercent / sinks;
    return `${application} ${percent.toFixed(4)} % (≤ ${IDLE_PERCENT} %: ${verdict(percent <= IDLE_PERCENT)})`;
  });
  const series = (of: (row: Figure32Row) => number) =>
    each.map((name) => ({
      name,
      points: rows
        .filter(({ application }) => application === name)
        .map((row) => [row.sinks, of(row)] as const),
    }));
  return {
    markdown: `Memory is what only the sinks hold, by their memory cgroup: their processes with the container's own and the filters, images and files on tmpfs, and the kernel's for them; pages on their way to swap count until they are let go, swapped ones (a file on the disk) have a column of their own; the template's pages, which all share, are not in it.\n\n${density}\n\n${details}\n\nAn idle sink's processor time, filter included, among the most sinks: ${idle.join('; ')}.\n\n![Memory by number of sinks](figure-3.2.svg)`,
    plots: {
      'figure-3.2': {
        title: 'Memory of the sink server by number of sinks',
        kind: 'line',
        x: 'sinks',
        y: 'MiB',
        logarithmic: true,
        series: series(({ memoryMiB }) => memoryMiB),
      },
    },
  };
}
