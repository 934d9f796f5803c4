import type { Figure31Row } from '../figure-3.1.ts';
import type { Section } from '../page.ts';
import { paperFigure, paperRows } from '../paper.ts';
import type { Result } from '../results.ts';
import { nameOf } from '../switched-off.ts';
import type { SizeModel, Table32Row } from '../table-3.2.ts';
import { spread, table, verdict, whole } from './markdown.ts';

/** What issue 4 asks for of suspend-to-swap: of suspend-to-RAM's response at the same size, and asleep at 2 GiB. */
const OF_RAM = 1.2;
const BEDS = ['native', 'qemu'] as const;
const ASLEEP = { sizeMiB: 2048, residentMiB: 150 };

export function renderFigure31({ rows }: Result<Figure31Row>): Section {
  const details = table(
    ['Application', 'bed', 'VM, MiB', 'method', 'response, ms', 'resident asleep, MiB', 'runs'],
    rows.map((row) => [
      row.application,
      row.bed,
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
        each.method === 'ram' &&
        each.bed === row.bed &&
        each.memoryMiB === row.memoryMiB &&
        each.application === row.application,
    );
    const ratio = row.responseMs / (ram?.responseMs ?? Number.NaN);
    return `${row.bed} ${row.memoryMiB} MiB ${ratio.toFixed(2)} (${verdict(ratio <= OF_RAM)})`;
  });
  const names = [...new Set(rows.map(nameOf))];
  return {
    markdown: `A VM with most of its memory dirty: \`native\`, as a container whose cgroup limits its memory and is swapped for real, and \`qemu\`. A container has no balloon, and nothing that could be saved to disk; what it holds asleep is what its cgroup is charged for. One wake of each way goes before those that are counted: the service has just started then, and what is prefetched was recorded by a wake of another way. The paper, OpenSSH on 3 GB: ${paper.join(', ')}; any suspend-to-disk ${whole(1000 * (paperFigure('3.1', 'any suspend-to-disk') ?? Number.NaN))} ms.\n\n${details}\n\nResponse from swap as a multiple of that from RAM, at most ${OF_RAM}: ${judged.join(', ')}.\n\n${BEDS.map((bed) => `![Response by switch-off method, ${bed}](figure-3.1-${bed}.svg)`).join('\n\n')}`,
    plots: Object.fromEntries(
      BEDS.map((bed) => [
        `figure-3.1-${bed}`,
        {
          title: `Response by switch-off method, ${bed}`,
          ...{ kind: 'bar' as const, x: 'VM, MiB', y: 'ms' },
          series: names.map((name) => ({
            name,
            points: rows
              .filter((row) => row.bed === bed && nameOf(row) === name)
              .map((row) => [row.memoryMiB, row.responseMs] as const),
          })),
        },
      ]),
    ),
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
  const line = model
    ? `Model for the sizes that were not measured, a line through those that were: resident = ${model.fixedMiB} MiB + ${model.perGiBMiB} MiB per GiB.`
    : 'One size was measured, from which nothing follows for others.';
  const asked = rows.find(({ sizeMiB, extrapolated }) => sizeMiB === ASLEEP.sizeMiB && !extrapolated);
  const judged = asked
    ? ` At ${ASLEEP.sizeMiB} MiB at most ${ASLEEP.residentMiB} MiB asleep: ${verdict(asked.residentMiB <= ASLEEP.residentMiB)}.`
    : '';
  return {
    markdown: `Suspend-to-swap of a VM with OpenSSH and most of its memory dirty. ${line}${judged}\n\n${details}`,
    plots: {},
  };
}
