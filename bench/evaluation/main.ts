/** `scripts/bench PART… [--json] [--quick]`: runs parts of the evaluation, keeps what they measured, and makes docs/performance.md of all there is. */
import { parseArgs } from 'node:util';
import { asSeamlessError, ERRORS, SeamlessError } from '../../common/errors.ts';
import { APPLICATIONS } from './applications.ts';
import { BARE_TEMPLATE, makeTemplate, TEMPLATE, takeDownOnSignals } from './bed.ts';
import { figure31 } from './figure-3.1.ts';
import { type Figure32Row, figure32, sinksPerGiB } from './figure-3.2.ts';
import { figure33 } from './figure-3.3.ts';
import { filterCost, idleScale, neighbour, surface } from './others.ts';
import { writePage } from './page.ts';
import {
  PARTS,
  type Part,
  PIECES,
  type Result,
  readResult,
  thisMachine,
  withFormerRows,
  writeResult,
} from './results.ts';
import { sinkRuntimes } from './runtimes.ts';
import { sshCost } from './ssh.ts';
import { switchCosts } from './switch.ts';
import { table31 } from './table-3.1.ts';
import { table31Qemu } from './table-3.1-qemu.ts';
import { type Table32Row, table32, withModel } from './table-3.2.ts';

const USAGE = `Usage: scripts/bench PART… [--quick] [--json] [--runs N] [--only APPLICATION,…] [--beds BED,…] [--sizes MIB,…] [--no-page]
  PART: ${PARTS.join(', ')}, all; page only makes docs/performance.md of bench/results again
  APPLICATION: ${APPLICATIONS.map(({ key }) => key).join(', ')}; BED: native, qemu; MIB: sizes of VMs (figure-3.1, table-3.2)
  What is left out by --only, --beds or --sizes keeps the rows that it has.`;

export interface Request {
  quick: boolean;
  /** Of the usual number of runs. */
  runs: number | undefined;
  /** Keys of applications; all when empty. */
  only: readonly string[];
  /** Of figure-3.1, table-3.2; all when empty. */
  beds: readonly string[];
  sizes: readonly number[];
}

type Measured = { rows: object[] };
/** Told what is finished so far: a run that stops leaves that. */
type Keep = (rows: object[]) => void;

const MEASURE: Record<Part, (request: Request, keep: Keep) => Promise<Measured>> = {
  'table-3.1': ({ quick, runs, only }, keep) => table31({ runs: runs ?? (quick ? 1 : 5), only, keep }),
  'table-3.1-qemu': ({ quick, runs, only }, keep) =>
    table31Qemu({ runs: runs ?? (quick ? 1 : 3), only, keep }),
  'figure-3.1': (request, keep) => figure31({ ...request, keep }),
  'table-3.2': (request, keep) => table32({ ...request, keep }),
  'figure-3.2': (request, keep) => figure32({ ...request, keep }),
  'figure-3.3': (request, keep) => figure33({ ...request, keep }),
  'sink-memory': ({ quick }) => sinkRuntimes(quick),
  ssh: ({ quick }) => sshCost(quick),
  neighbour: ({ quick }) => neighbour(quick),
  switch: ({ quick }) => switchCosts(quick),
  filter: ({ quick }) => filterCost(quick),
  'idle-scale': ({ quick }) => idleScale(quick),
  api: ({ quick }) => surface(quick),
};

/** What follows from all rows, of this run and of former ones. */
const FOLLOWING: Partial<Record<Part, (rows: object[]) => object>> = {
  'table-3.2': (rows) => withModel(rows as Table32Row[]),
  'figure-3.2': (rows) => ({ sinksPerGiB: sinksPerGiB(rows as Figure32Row[]) }),
};

/** These need no lab, or make their templates themselves. */
const NO_BED: readonly Part[] = ['table-3.1-qemu', 'switch', 'neighbour', 'filter', 'idle-scale', 'api'];
/** These boot virtual machines, of which OpenSSH's need none of the applications. */
const IN_QEMU: readonly Part[] = ['figure-3.1', 'table-3.2'];

async function main(): Promise<number> {
  const { values, positionals } = parseArguments();
  const request: Request = {
    quick: values.quick === true,
    runs: values.runs === undefined ? undefined : Number(values.runs),
    only: values.only?.split(',') ?? [],
    beds: values.beds?.split(',') ?? [],
    sizes: values.sizes?.split(',').map(Number) ?? [],
  };
  const parts = positionals.includes('all')
    ? [...PARTS]
    : positionals.filter((name) => name !== 'page').map(partNamed);
  // ssh gives the terminal's name to the shell, and a shell that knows its terminal says more than it is asked.
  process.env['TERM'] = 'dumb';
  const say = (line: string) => process.stderr.write(`bench: ${line}\n`);
  takeDownOnSignals();
  for (const template of templatesOf(parts, request.only)) await makeTemplate(template, say);
  const results: Result[] = [];
  let failed: SeamlessError | undefined;
  for (const part of parts)
    try {
      results.push(await measure(part, request));
    } catch (thrown) {
      // The others are not its fault; what was measured of it before stays.
      failed = asSeamlessError(thrown);
      say(
        `${part} was not measured: ${failed.code === 'INTERNAL' ? (thrown as Error).stack : failed.message}`,
      );
    }
  if (!values['no-page']) await writePage();
  const [only] = results;
  const printed =
    results.length === 1 ? only : Object.fromEntries(results.map((result) => [result.part, result]));
  if (values.json) process.stdout.write(`${JSON.stringify(printed)}\n`);
  return failed ? ERRORS[failed.code].exit : 0;
}

async function measure(part: Part, request: Request): Promise<Result> {
  const started = performance.now();
  const machine = thisMachine();
  const at = new Date().toISOString();
  const pieces = PIECES[part];
  const former = pieces ? readResult<object>(part) : null;
  const isWhole = [request.only, request.beds, request.sizes].every(({ length }) => length === 0);
  const write = (measured: Measured, more: { stopped?: string } = {}): Result => {
    const seconds = Math.round((performance.now() - started) / 1000);
    // What was left out, or not come to, keeps what it has.
    const rows = isWhole && !more.stopped ? measured.rows : withFormerRows(measured.rows, former, pieces);
    const whole = { rows, ...FOLLOWING[part]?.(rows) };
    const result = { part, at, machine, quick: request.quick, seconds, ...more, ...measured, ...whole };
    writeResult(result as Result);
    return result as Result;
  };
  const keep: Keep = (rows) => write({ rows }, { stopped: 'it was ended' });
  let kept = 0;
  try {
    const measured = await MEASURE[part](request, (rows) => {
      kept = rows.length;
      if (kept > 0) keep(rows);
    });
    return write(measured);
  } catch (thrown) {
    const stopped = asSeamlessError(thrown).message;
    const written = readResult<object>(part);
    if (kept > 0 && written) writeResult({ ...(written as Result), stopped });
    throw thrown;
  }
}

function templatesOf(parts: readonly Part[], only: readonly string[]): string[] {
  const isBare = (part: Part) =>
    part === 'ssh' || (IN_QEMU.includes(part) && only.every((key) => key === 'openssh'));
  const isAny = (kind: (part: Part) => boolean) => parts.some((part) => !NO_BED.includes(part) && kind(part));
  return [...(isAny((part) => !isBare(part)) ? [TEMPLATE] : []), ...(isAny(isBare) ? [BARE_TEMPLATE] : [])];
}

function parseArguments() {
  const flag = { type: 'boolean' } as const;
  const word = { type: 'string' } as const;
  try {
    const parsed = parseArgs({
      allowPositionals: true,
      options: { quick: flag, json: flag, 'no-page': flag, runs: word, only: word, beds: word, sizes: word },
    });
    if (parsed.positionals.length > 0) return parsed;
  } catch (cause) {
    throw new SeamlessError('REQUEST_INVALID', `${(cause as Error).message}\n${USAGE}`, { cause });
  }
  throw new SeamlessError('REQUEST_INVALID', USAGE);
}

function partNamed(name: string): Part {
  const part = PARTS.find((each) => each === name);
  if (part) return part;
  throw new SeamlessError('REQUEST_INVALID', `Expected a part of the evaluation, got ${name}\n${USAGE}`);
}

try {
  process.exitCode = await main();
} catch (thrown) {
  const error = asSeamlessError(thrown);
  process.stderr.write(`bench: ${error.message}\n`);
  if (error.code === 'INTERNAL') process.stderr.write(`${(thrown as Error).stack}\n`);
  process.exitCode = ERRORS[error.code].exit;
}
