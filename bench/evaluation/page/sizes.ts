import type { Figure31Row } from '../figure-3.1.ts';
import type { Section } from '../page.ts';
import { paperFigure, paperRows } from '../paper.ts';
import type { Result } from '../results.ts';
import { nameOf } from '../switched-off.ts';
import type { SizeModel, Table32Row } from '../table-3.2.ts';
import { spread, table, verdict, whole } from './markdown.ts';

/** What issue 4 asks for of suspend-to-swap: of suspend-to-RAM's response at the same size, and asleep at 2 GiB. */
const OF_RAM = 1.2;
const ASLEEP = { sizeMiB: 2048, residentMiB: 150 };

export function renderFigure31({ rows }: Result<Figure31Row>): Section {
  const details = table(
    ['Application', 'VM, MiB', 'method', 'response, ms', 'resident asleep, MiB', 'runs'],
    rows.map((row) => [
      row.application,
      String(row.memoryMiB),
      nameOf(row),
      spread(row.spread),
      whole(row.residentMiB),
      String(row.spread.runs),
    ]),
  );
  const paper = [
    'suspend-to-RAM',
    'suspend-to-swap without dummy restore',
    'suspend-to-swap with dummy restore',
  ].map((method) => `${method} ${whole(1000 * (paperFigure('3.1', `OpenSSH ${method}`) ?? Number.NaN))} ms`);
  const best = rows.filter(
    ({ method, dummyRestore, prefetch }) => method === 'swap' && dummyRestore && prefetch,
  );
  const judged = best.map((row) => {
    const ram = rows.find(
      (each) =>
        each.method === 'ram' && each.memoryMiB === row.memoryMiB && each.application === row.application,
    );
    const ratio = row.responseMs / (ram?.responseMs ?? Number.NaN);
    return `${row.memoryMiB} MiB ${ratio.toFixed(2)} (${verdict(ratio <= OF_RAM)})`;
  });
  const names = [...new Set(rows.map(nameOf))];
  return {
    markdown: `A virtual machine in QEMU with most of its memory dirty. The paper, OpenSSH on 3 GB: ${paper.join(', ')}; any suspend-to-disk ${whole(1000 * (paperFigure('3.1', 'any suspend-to-disk') ?? Number.NaN))} ms.\n\n${details}\n\nResponse from swap as a multiple of that from RAM, at most ${OF_RAM}: ${judged.join(', ')}.\n\n![Response by switch-off method](figure-3.1.svg)`,
    plots: {
      'figure-3.1': {
        title: 'Response by switch-off method',
        kind: 'bar',
        x: 'VM, MiB',
        y: 'ms',
        series: names.map((name) => ({
          name,
          points: rows
            .filter((row) => nameOf(row) === name)
            .map((row) => [row.memoryMiB, row.responseMs] as const),
        })),
      },
    },
  };
}

export function renderTable32({ rows, model }: Result<Table32Row> & { model?: SizeModel }): Section {
  const paper = new Map(
    paperRows('table-3.2').map((row) => [Math.round(Number(row['size_gb']) * 1024), row]),
  );
  const details = table(
    ['VM, MiB', 'resident asleep, MiB', 'saved', 'paper: asleep, MiB', 'paper: saved', ''],
    rows.map(({ sizeMiB, residentMiB, savingPercent, extrapolated }) => {
      const theirs = paper.get(sizeMiB);
      return [
        String(sizeMiB),
        whole(residentMiB),
        `${savingPercent} %`,
        theirs ? whole(Number(theirs['reduced_gb']) * 1024) : '–',
        theirs ? `${theirs['saving_percent']} %` : '–',
        extrapolated ? 'by the model' : 'measured',
      ];
    }),
  );
  const asked = rows.find(({ sizeMiB, extrapolated }) => sizeMiB === ASLEEP.sizeMiB && !extrapolated);
  const judged = asked
    ? ` At ${ASLEEP.sizeMiB} MiB at most ${ASLEEP.residentMiB} MiB asleep: ${verdict(asked.residentMiB <= ASLEEP.residentMiB)}.`
    : '';
  return {
    markdown: `Suspend-to-swap of a VM with OpenSSH and most of its memory dirty. Model for the sizes that were not measured, a line through those that were: resident = ${model?.fixedMiB} MiB + ${model?.perGiBMiB} MiB per GiB.${judged}\n\n${details}`,
    plots: {},
  };
}
