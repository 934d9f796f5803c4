/**
 * docs/performance.md from page.md, which holds the words, and bench/results, which holds the figures: a line `<!-- NAME -->` in
 * page.md stands for what was measured for that part. No figure is written by hand.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { renderFigure32 } from './page/figure-3.2.ts';
import { renderFigure33 } from './page/figure-3.3.ts';
import { renderFilter, renderIdleScale, renderNeighbour } from './page/others.ts';
import { renderRuntimes } from './page/runtimes.ts';
import { renderFigure31, renderTable32 } from './page/sizes.ts';
import { renderSsh } from './page/ssh.ts';
import { renderSurface } from './page/surface.ts';
import { renderSwitch } from './page/switch.ts';
import { renderTable31, renderTable31Qemu } from './page/table-3.1.ts';
import { draw, type Plot } from './plots.ts';
import { PARTS, type Part, PIECES, type Result, type RowRun, readResult } from './results.ts';

const DOCS = join(import.meta.dirname, '../../docs');
const TEMPLATE = join(import.meta.dirname, 'page.md');

export interface Section {
  markdown: string;
  /** Drawn into docs/NAME.svg. */
  plots: Record<string, Plot>;
}

/** Each is given the result of its own part, whose rows it knows. */
type Renderer = (result: Result<any>) => Section;

const RENDER: Record<Part, Renderer> = {
  'table-3.1': renderTable31,
  'table-3.1-qemu': renderTable31Qemu,
  'figure-3.1': renderFigure31,
  'figure-3.2': renderFigure32,
  'table-3.2': renderTable32,
  'figure-3.3': renderFigure33,
  'sink-memory': renderRuntimes,
  ssh: renderSsh,
  neighbour: renderNeighbour,
  switch: renderSwitch,
  filter: renderFilter,
  'idle-scale': renderIdleScale,
  api: renderSurface,
};

/** The whole page, and the plots by their files' names. Pure but for reading `page.md`. */
export function renderPage(results: Partial<Record<Part, Result | null>>): {
  page: string;
  plots: Record<string, string>;
} {
  const plots: Record<string, string> = {};
  const template = readFileSync(TEMPLATE, 'utf8');
  const page = template.replaceAll(/^<!-- (\S+) -->$/gm, (_line, name: Part) => {
    const result = results[name];
    if (!result) return `Not measured yet: \`scripts/bench ${name}\`.`;
    const section = RENDER[name](result);
    for (const [file, plot] of Object.entries(section.plots)) plots[`${file}.svg`] = draw(plot);
    return `${section.markdown.trim()}\n\n${provenance(result)}`;
  });
  return { page, plots };
}

export async function writePage(): Promise<void> {
  const { page, plots } = renderPage(Object.fromEntries(PARTS.map((part) => [part, readResult(part)])));
  writeFileSync(join(DOCS, 'performance.md'), page);
  for (const [file, svg] of Object.entries(plots)) writeFileSync(join(DOCS, file), svg);
}

function provenance({ part, at, machine, quick, seconds, stopped, rows }: Result): string {
  const { processor, cores, memoryMiB, kernel, loadBefore } = machine;
  const command = `scripts/bench ${part}${quick ? ' --quick' : ''}`;
  return `<sub>\`${command}\`, ${minute(at)}, ${seconds} s; ${cores} × ${processor}, ${Math.round(memoryMiB / 1024)} GiB, Linux ${kernel}, ${loadWords(loadBefore, cores)}.${stopped ? ` It did not go to its end: ${stopped}.` : ''}${formerRuns(part, rows, cores)}</sub>`;
}

/** Whoever else ran meanwhile makes figures worse, and is told of. */
function loadWords(loadBefore: number, cores: number): string {
  return `load ${loadBefore} when it began${loadBefore > cores ? ' (**others ran**)' : ''}`;
}

/** Rows that stem from runs before, by what they are of. */
function formerRuns(part: Part, rows: readonly Record<string, unknown>[], cores: number): string {
  const runs = new Map<string, Set<string>>();
  for (const row of rows) {
    if (!row['run']) continue;
    const { at, loadBefore } = row['run'] as RowRun;
    const when = `${minute(at)} (${loadWords(loadBefore, cores)})`;
    const what = (PIECES[part] ?? []).flatMap((key) => row[key] ?? []).join(' ');
    runs.set(when, (runs.get(when) ?? new Set()).add(what));
  }
  return [...runs].map(([when, what]) => ` ${[...what].join(', ')}: ${when}.`).join('');
}

function minute(at: string): string {
  return `${at.slice(0, 16).replace('T', ' ')} UTC`;
}
