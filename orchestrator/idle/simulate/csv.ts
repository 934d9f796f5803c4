/**
 * Traces as CSV, one row per interval of a VM, in the order of time for each VM (rows of different VMs may be mixed):
 *
 *   vm,time,seconds,memoryMiB,cpu,network,disk,sessions,jobs,load,dirty[,requests][,probes][,nextTimer][,busy]
 *
 * `time` is the interval's beginning, ISO 8601 or seconds since 1970. Meters are in the units of signals.ts; an empty cell is not known, and so
 * is time without a row. Without `requests` each interval with network or sessions above zero has one; without `busy` the VM
 * is in use when it has requests, sessions or jobs. `nextTimer` is NAME@TIME, or empty.
 */
import { createReadStream } from 'node:fs';
import { SeamlessError } from '../../../common/errors.ts';
import { METERS, type Timer } from '../signals.ts';
import { QUIET, type Stretch, type VmTrace } from './trace.ts';

const REQUIRED = ['vm', 'time', 'seconds', 'memoryMiB', ...METERS] as const;
const OPTIONAL = ['requests', 'probes', 'nextTimer', 'busy'] as const;
const COLUMNS = [...REQUIRED, ...OPTIONAL] as const;
type Column = (typeof COLUMNS)[number];

const UNKNOWN: readonly number[] = METERS.map(() => Number.NaN);
const LONGEST_S = 366 * 86_400;

/** Reads the file as a stream; throws `REQUEST_INVALID` with the line for what is not a trace. */
export async function readCsv(path: string): Promise<VmTrace[]> {
  const reader = new TraceReader(path);
  let rest = '';
  try {
    for await (const chunk of createReadStream(path, { encoding: 'utf8', highWaterMark: 1 << 20 })) {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) reader.line(line);
    }
  } catch (thrown) {
    if (thrown instanceof SeamlessError) throw thrown;
    throw new SeamlessError('REQUEST_INVALID', `Expected a trace at ${path}: ${(thrown as Error).message}`, {
      cause: thrown,
    });
  }
  if (rest !== '') reader.line(rest);
  return reader.end();
}

/** Rows of one trace, as `readCsv` reads them. */
export function* csvRows(trace: VmTrace): Generator<string> {
  const { name, memoryMiB, stretches, probes, timers } = trace;
  // A row ends where a stretch does, a probe comes or a timer fires, so that no time of these is lost.
  const marks = [...probes, ...timers.map(({ atMs }) => atMs)].sort((a, b) => a - b);
  let mark = 0;
  let probe = 0;
  let timer = 0;
  const rows = function* (fromMs: number, toMs: number, stretch: Stretch | null): Generator<string> {
    const whole = toMs - fromMs;
    for (let at = fromMs; at < toMs; ) {
      while ((marks[mark] ?? Number.POSITIVE_INFINITY) <= at) mark++;
      const end = Math.min(toMs, marks[mark] ?? Number.POSITIVE_INFINITY);
      while ((timers[timer]?.atMs ?? Number.POSITIVE_INFINITY) <= at) timer++;
      let probed = 0;
      for (; (probes[probe] ?? Number.POSITIVE_INFINITY) < end; probe++) probed++;
      const next = timers[timer];
      const before = (time: number) => Math.ceil(((time - fromMs) / whole) * (stretch?.requests ?? 0));
      yield [
        name,
        at / 1000,
        (end - at) / 1000,
        memoryMiB,
        ...Array.from(stretch?.values ?? QUIET, (value) => (Number.isNaN(value) ? '' : value)),
        before(end) - before(at),
        probed,
        next ? `${next.name}@${next.atMs / 1000}` : '',
        stretch?.busy ? 1 : 0,
      ].join(',');
      at = end;
    }
  };
  let at = trace.fromMs;
  for (const stretch of stretches) {
    yield* rows(at, stretch.fromMs, null);
    yield* rows(stretch.fromMs, stretch.toMs, stretch);
    at = stretch.toMs;
  }
  yield* rows(at, trace.toMs, null);
}

export const CSV_HEADER = COLUMNS.join(',');

interface Draft {
  name: string;
  memoryMiB: number;
  fromMs: number;
  toMs: number;
  lastLine: number;
  stretches: Stretch[];
  probes: number[];
  timers: Map<string, Timer>;
}

class TraceReader {
  readonly #path: string;
  readonly #drafts = new Map<string, Draft>();
  #columns: Column[] | null = null;
  #line = 0;

  constructor(path: string) {
    this.#path = path;
  }

  line(raw: string): void {
    this.#line++;
    const text = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
    if (text.trim() === '') return;
    const cells = text.split(',');
    if (this.#columns === null) this.#columns = this.#header(cells);
    else this.#row(cells, this.#columns);
  }

  end(): VmTrace[] {
    if (this.#columns === null) throw this.#problem(`expected the header ${CSV_HEADER}, got an empty file`);
    if (this.#drafts.size === 0) throw this.#problem('expected samples after the header, got none');
    return [...this.#drafts.values()].map(({ lastLine: _line, timers, ...draft }) => ({
      ...draft,
      timers: [...timers.values()].sort((a, b) => a.atMs - b.atMs),
    }));
  }

  #header(cells: readonly string[]): Column[] {
    const names = cells.map((cell) => cell.replace(/^\uFEFF/, '').trim());
    const unknown = names.filter((name) => !(COLUMNS as readonly string[]).includes(name));
    const missing = REQUIRED.filter((name) => !names.includes(name));
    const twice = names.filter((name, index) => names.indexOf(name) !== index);
    const problems = [
      ...(missing.length > 0 ? [`missing: ${missing.join(', ')}`] : []),
      ...(unknown.length > 0 ? [`unknown: ${unknown.join(', ')}`] : []),
      ...(twice.length > 0 ? [`twice: ${twice.join(', ')}`] : []),
    ];
    if (problems.length > 0)
      throw this.#problem(`expected the columns ${CSV_HEADER} (${problems.join('; ')})`);
    return names as Column[];
  }

  #row(cells: readonly string[], columns: readonly Column[]): void {
    if (cells.length !== columns.length) {
      const hint = cells.length < columns.length ? '; the file may be cut off' : '';
      throw this.#problem(`expected ${columns.length} columns, got ${cells.length}${hint}`);
    }
    const row = Object.fromEntries(
      columns.map((name, index) => [name, (cells[index] ?? '').trim()]),
    ) as Partial<Record<Column, string>>;
    const name = row.vm ?? '';
    if (name === '') throw this.#problem('vm: expected a name, got nothing');
    const fromMs = this.#time('time', row.time ?? '');
    const seconds = this.#amount('seconds', row.seconds ?? '', LONGEST_S);
    if (seconds === 0) throw this.#problem('seconds: expected more than 0');
    const memoryMiB = this.#amount('memoryMiB', row.memoryMiB ?? '', 2 ** 30);
    const values = METERS.map((meter) =>
      row[meter] === '' ? Number.NaN : this.#amount(meter, row[meter] ?? '', meter === 'cpu' ? 100 : 1e13),
    );
    const known = (meter: (typeof METERS)[number]) => (values[METERS.indexOf(meter)] ?? 0) > 0;
    const requests =
      row.requests === undefined
        ? Number(known('network') || known('sessions'))
        : this.#amount('requests', row.requests, 1e9);
    const busy =
      row.busy === undefined
        ? requests > 0 || known('sessions') || known('jobs')
        : this.#amount('busy', row.busy, 1) === 1;
    const toMs = Math.round(fromMs + seconds * 1000);
    const draft = this.#draftOf(name, memoryMiB, fromMs);
    this.#append(draft, { fromMs, toMs, values, requests, busy });
    const probes = row.probes === undefined ? 0 : this.#amount('probes', row.probes, 1e6);
    for (let index = 0; index < probes; index++) {
      draft.probes.push(Math.round(fromMs + ((toMs - fromMs) * index) / probes));
    }
    if (row.nextTimer) this.#timer(draft, row.nextTimer);
  }

  #draftOf(name: string, memoryMiB: number, fromMs: number): Draft {
    const known = this.#drafts.get(name);
    if (known) return known;
    const draft = {
      name,
      memoryMiB,
      fromMs,
      toMs: fromMs,
      lastLine: this.#line,
      stretches: [],
      probes: [],
      timers: new Map(),
    };
    this.#drafts.set(name, draft);
    return draft;
  }

  #append(draft: Draft, stretch: Stretch): void {
    const { name, toMs, lastLine, stretches } = draft;
    if (stretch.fromMs < toMs) {
      throw this.#problem(
        `expected the samples of ${name} in the order of time, got one from before the end of line ${lastLine}’s`,
      );
    }
    if (stretch.fromMs > toMs) {
      stretches.push({ fromMs: toMs, toMs: stretch.fromMs, values: UNKNOWN, requests: 0, busy: false });
    }
    const last = stretches.at(-1);
    const isMore =
      last &&
      last.busy === stretch.busy &&
      last.requests + stretch.requests === 0 &&
      METERS.every((_, meter) => Object.is(last.values[meter], stretch.values[meter]));
    if (isMore) last.toMs = stretch.toMs;
    else stretches.push(stretch);
    draft.toMs = stretch.toMs;
    draft.lastLine = this.#line;
  }

  #timer(draft: Draft, cell: string): void {
    const at = cell.lastIndexOf('@');
    if (at <= 0) throw this.#problem(`nextTimer: expected NAME@TIME or nothing, got ${JSON.stringify(cell)}`);
    draft.timers.set(cell, {
      name: cell.slice(0, at),
      atMs: this.#time('nextTimer', cell.slice(at + 1)),
    });
  }

  /** Milliseconds since 1970. */
  #time(column: string, cell: string): number {
    const ms = /^\d+(\.\d+)?$/.test(cell) ? Number(cell) * 1000 : Date.parse(cell);
    // Beyond the year 2200 these are milliseconds that were taken for seconds.
    if (Number.isFinite(ms) && ms >= 0 && ms < 7.3e12) return Math.round(ms);
    throw this.#problem(`${column}: expected ISO 8601 or seconds since 1970, got ${JSON.stringify(cell)}`);
  }

  #amount(column: string, cell: string, max: number): number {
    const value = /^[-+.\deE]+$/.test(cell) ? Number(cell) : Number.NaN;
    if (value >= 0 && value <= max) return value;
    throw this.#problem(`${column}: expected a number from 0 to ${max}, got ${JSON.stringify(cell)}`);
  }

  #problem(message: string): SeamlessError {
    return new SeamlessError('REQUEST_INVALID', `${this.#path}:${Math.max(1, this.#line)}: ${message}`);
  }
}
