/** What a simulation gives, for programs and for people. Pure. */
import type { Outcome } from './replay.ts';

export interface PolicyReport extends Outcome {
  name: string;
}

export interface SimulationReport {
  vms: number;
  days: number;
  wallSeconds: number;
  policies: PolicyReport[];
}

export function addOutcome(sum: Outcome | undefined, more: Outcome): void {
  if (!sum) return;
  for (const key of Object.keys(sum) as (keyof Outcome)[]) sum[key] += more[key];
}

const COLUMNS: [title: string, cell: (report: PolicyReport, vms: number, days: number) => string][] = [
  ['Policy', ({ name }) => name],
  ['Saved GiB·h', ({ savedGiBHours }) => grouped(savedGiBHours)],
  ['of possible', ({ savedGiBHours, possibleGiBHours }) => share(savedGiBHours, possibleGiBHours)],
  ['Wakes per VM and day', ({ wakes }, vms, days) => (wakes / vms / days).toFixed(2)],
  ['of them false', ({ wakes, falseWakes }) => share(falseWakes, wakes)],
  ['Delay, s per VM and day', ({ delaySeconds }, vms, days) => (delaySeconds / vms / days).toFixed(3)],
  ['Thrash per VM and day', ({ thrash }, vms, days) => (thrash / vms / days).toFixed(3)],
  ['Parked while busy', ({ parkedWhileBusy }) => grouped(parkedWhileBusy)],
];

export function textTable(report: SimulationReport): string {
  const rows = cells(report);
  const widths = COLUMNS.map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  const lines = rows.map((row) =>
    row.map((cell, column) => pad(cell, widths[column] ?? 0, column)).join('  '),
  );
  const { vms, days, wallSeconds } = report;
  return [`${vms} VMs, ${round(days)} days, simulated in ${wallSeconds} s`, '', ...lines].join('\n');
}

export function markdownTable(report: SimulationReport): string {
  const [header = [], ...rows] = cells(report);
  const line = (row: readonly string[]) => `| ${row.join(' | ')} |`;
  const rule = COLUMNS.map((_, column) => (column === 0 ? '---' : '---:'));
  return [line(header), `|${rule.join('|')}|`, ...rows.map(line)].join('\n');
}

function cells({ policies, vms, days }: SimulationReport): string[][] {
  return [
    COLUMNS.map(([title]) => title),
    ...policies.map((each) => COLUMNS.map(([, cell]) => cell(each, vms, days))),
  ];
}

function pad(cell: string, width: number, column: number): string {
  return column === 0 ? cell.padEnd(width) : cell.padStart(width);
}

function share(part: number, whole: number): string {
  return whole === 0 ? '–' : `${((part / whole) * 100).toFixed(1)} %`;
}

function grouped(value: number): string {
  return Math.round(value)
    .toString()
    .replaceAll(/\B(?=(\d{3})+$)/g, ' ');
}

export function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
