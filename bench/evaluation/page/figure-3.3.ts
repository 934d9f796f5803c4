import type { Figure33Row } from '../figure-3.3.ts';
import type { Section } from '../page.ts';
import { paperFigure } from '../paper.ts';
import type { Result } from '../results.ts';
import { table, verdict, whole } from './markdown.ts';

/** What issue 4 asks for of 20 wakes at once, sink side, in milliseconds. */
const WANTED: Record<string, number> = { OpenSSH: 1000, 'Apache2/PHP': 2500 };
const AT_ONCE = 20;

export function renderFigure33({ rows }: Result<Figure33Row>): Section {
  const paper = ({ application, n }: Figure33Row) =>
    1000 * (paperFigure('3.3', `${application} N=${n}`) ?? Number.NaN);
  const details = table(
    ['Application', 'part', 'N', 'median, ms', 'last, ms', 'paper, ms'],
    rows.map((row) => [
      row.application,
      row.part,
      String(row.n),
      ...[row.responseMsMedian, row.responseMsMax].map(whole),
      row.part === 'sink' ? whole(paper(row)) : '–',
    ]),
  );
  const reached = rows
    .filter(({ part, n }) => part === 'sink' && n === AT_ONCE)
    .map(({ application, responseMsMax }) => {
      const wanted = WANTED[application] ?? Number.NaN;
      return `${AT_ONCE} × ${application} within ${wanted} ms: ${verdict(responseMsMax <= wanted)}.`;
    });
  const kinds = [...new Set(rows.map(({ application, part }) => `${application}, ${part}`))];
  return {
    markdown: `\`sink\`: the sink server's part of N wakes at once (stop, dump, send), like the paper's figure without the VM's resume. \`whole\`: N native VMs, each woken by its client at the same time; VMs, sinks, switches and clients share this machine's processors.\n\n${details}\n\n${reached.join(' ')}\n\n![Response of N wakes at once](figure-3.3.svg)`,
    plots: {
      'figure-3.3': {
        title: 'N wakes at once: the last one',
        kind: 'line',
        x: 'N',
        y: 'ms',
        logarithmic: true,
        series: kinds.map((kind) => ({
          name: kind,
          points: rows
            .filter(({ application, part }) => `${application}, ${part}` === kind)
            .map(({ n, responseMsMax }) => [n, responseMsMax] as const),
        })),
      },
    },
  };
}
