/** bench/results/NAME.json: what one part of the evaluation measured, when, where and how often. docs/performance.md is made of these. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';

export const PARTS = [
  'table-3.1',
  'table-3.1-qemu',
  'figure-3.1',
  'figure-3.2',
  'figure-3.3',
  'table-3.2',
  'neighbour',
  'switch',
  'sink-memory',
  'ssh',
  'filter',
  'idle-scale',
  'api',
] as const;
export type Part = (typeof PARTS)[number];

export interface Machine {
  processor: string;
  cores: number;
  memoryMiB: number;
  kernel: string;
  /** One minute's, when the part began: what else the machine had to do. */
  loadBefore: number;
}

export interface Result<Row = Record<string, unknown>> {
  part: Part;
  /** ISO 8601. */
  at: string;
  machine: Machine;
  /** Fewer runs and sizes than a full run has. */
  quick: boolean;
  seconds: number;
  /** Why it has not gone to its end; the rows are those that it had finished. */
  stopped?: string;
  rows: Row[];
  [more: string]: unknown;
}

const FOLDER = join(import.meta.dirname, '../results');

export function thisMachine(): Machine {
  return {
    processor: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryMiB: Math.round(totalmem() / 2 ** 20),
    kernel: release(),
    loadBefore: Math.round((loadavg()[0] ?? 0) * 10) / 10,
  };
}

/** Of a row that was not measured in the run that the result names. */
export interface RowRun {
  at: string;
  loadBefore: number;
  quick: boolean;
}

/** What tells rows of different beds apart; each bed's rows are compared with one another, so they stay together. */
const BED_OF_ROW = ['application', 'bed', 'memoryMiB', 'sizeMiB'];

/** The parts that can be measured one bed after the other, and by what of their rows. */
export const PIECES: Readonly<Partial<Record<Part, readonly string[]>>> = {
  'table-3.1': BED_OF_ROW,
  'table-3.1-qemu': BED_OF_ROW,
  'figure-3.1': BED_OF_ROW,
  'figure-3.2': ['application'],
  'figure-3.3': ['application', 'part'],
  'table-3.2': BED_OF_ROW,
};

/** The rows of this run, and of the former ones those of beds that this run has not measured, marked with their own. Pure. */
export function withFormerRows<Row extends object>(
  rows: readonly Row[],
  former: Result<Row> | null,
  keys: readonly string[] = BED_OF_ROW,
): (Row & { run?: RowRun })[] {
  const bedOf = (row: object) => JSON.stringify(keys.map((key) => (row as Record<string, unknown>)[key]));
  const measured = new Set(rows.map(bedOf));
  const left = (former?.rows ?? []).filter((row) => !measured.has(bedOf(row)));
  const run = former && { at: former.at, loadBefore: former.machine.loadBefore, quick: former.quick };
  const all: (Row & { run?: RowRun })[] = [
    ...left.map((row) => ({ ...(run ? { run } : {}), ...row })),
    ...rows,
  ];
  const order = [...new Set([...(former?.rows ?? []), ...rows].map(bedOf))];
  return all.toSorted(
    (a, b) =>
      placeOf(a, keys).localeCompare(placeOf(b, keys)) || order.indexOf(bedOf(a)) - order.indexOf(bedOf(b)),
  );
}

/** One bed after the other, and in it by the size of the VM, where that is what tells rows apart; else as they came. */
function placeOf(row: object, keys: readonly string[]): string {
  const told = Object.fromEntries(Object.entries(row).filter(([key]) => keys.includes(key)));
  return `${told['bed'] ?? ''} ${String(told['memoryMiB'] ?? told['sizeMiB'] ?? 0).padStart(9, '0')}`;
}

export function writeResult(result: Result): void {
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(join(FOLDER, `${result.part}.json`), `${JSON.stringify(result, null, 2)}\n`);
}

/** Null when that part has not been measured yet. */
export function readResult<Row>(part: Part, folder = FOLDER): Result<Row> | null {
  try {
    return JSON.parse(readFileSync(join(folder, `${part}.json`), 'utf8')) as Result<Row>;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
