/**
 * Runs CRIU, by the launcher: it starts several at once faster than Node does one, and gives them descriptors of ours. The rules of
 * common/exec.ts: no shell, a deadline, and a failure that carries argv, exit or signal, and the end of CRIU's log.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ErrorCode, SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import { DUMP_LOG, RESTORE_LOG } from './arguments.ts';
import type { Gate } from './gate.ts';
import { type Ending, FIRST_INHERITED_FD, type Launcher } from './launcher.ts';

export interface CriuRun {
  /** Resolves when CRIU exits 0; else rejects with `CHECKPOINT_FAILED` or `RESTORE_FAILED`. */
  done: Promise<void>;
  /** With a gate, of a restore: resolves when CRIU has made the first process and makes the others; never, if it fails before. */
  begun: Promise<void>;
  /** With a gate: resolves when CRIU waits for `decide`, all its work done but for the last step. Rejects as `done` does. */
  reached: Promise<void>;
  /**
   * With a gate: `true` lets CRIU take the last step (end the dumped processes, let the restored ones go), `false` makes it
   * undo its work (let the dumped ones go on, end the restored ones with their connections untouched) and fail.
   */
  decide(commit: boolean): void;
}

export interface CriuOptions {
  launch: Launcher['run'];
  /** What leads into CRIU's namespaces: `['nsenter', …]`. Empty: run it here. */
  prefix?: readonly string[];
  /** Descriptors that CRIU gets, to be open until it has ended; `inheritedFd` says under which number. A socket must have been set to block. */
  descriptors?: readonly number[];
  /** Where CRIU stops; its arguments must name the gate's script. Closed when CRIU has ended. */
  gate?: Gate;
  /** Path of `LIMITS_LIBRARY` as `prefix` leads to it; unless told, as here. */
  limitsLibrary?: string;
  timeoutMs?: number;
}

/** limits/limits.c, preloaded into every dump; `npm run build` makes it. */
export const LIMITS_LIBRARY = join(import.meta.dirname, '../build/criu-limits.so');

const LOG_TAIL_LINES = 25;

/** `criu --version` of this machine, as `4.2.1`. */
export async function criuVersion(): Promise<string> {
  const { stdout } = await exec(['criu', '--version']);
  const version = /Version:\s*(\d[\d.]*)/.exec(stdout)?.[1];
  if (!version)
    throw new SeamlessError('PREREQUISITE_MISSING', `Expected a version from criu --version, got ${stdout}`);
  return version;
}

/** The number under which CRIU sees the descriptor at `index` of `CriuOptions.descriptors`. */
export function inheritedFd(index: number): number {
  return FIRST_INHERITED_FD + index;
}

/** Starts CRIU with arguments from criu/arguments.ts; `folder` is the image folder that these name. */
export function startCriu(args: readonly string[], folder: string, options: CriuOptions): CriuRun {
  const { gate, limitsLibrary, descriptors = [] } = options;
  const preload = { LD_PRELOAD: limitsLibrary ?? LIMITS_LIBRARY };
  const isDump = args[0] === 'dump';
  // Set by env(1) where the path is another than here; directly where not, since in an emulated guest each program counts.
  const set = isDump && limitsLibrary ? ['env', `LD_PRELOAD=${limitsLibrary}`] : [];
  const [program = 'criu', ...rest] = [...(options.prefix ?? []), ...set, 'criu', ...args];
  const argv = [program, ...rest];
  const env = { ...gate?.env, ...(isDump && !limitsLibrary ? preload : {}) };
  const timeoutMs = options.timeoutMs ?? 60_000;
  const end = options.launch(argv, { env, descriptors, timeoutMs });
  const done = judge(end, argv, folder, isDump, timeoutMs).finally(() => gate?.close());
  const reached = Promise.race([
    gate?.reached,
    done.then(() => Promise.reject(new SeamlessError('INTERNAL', 'CRIU ended without stopping at its gate'))),
  ]);
  // Both are reported to whoever awaits them; another tree may fail first.
  done.catch(() => {});
  reached.catch(() => {});
  return { done, begun: gate?.begun ?? done, reached, decide: (commit) => gate?.decide(commit) };
}

async function judge(
  end: Promise<Ending>,
  argv: string[],
  folder: string,
  dumping: boolean,
  timeoutMs: number,
): Promise<void> {
  const { problem, timedOut, stderr } = await end;
  if (problem === null) return;
  const code: ErrorCode = dumping ? 'CHECKPOINT_FAILED' : 'RESTORE_FAILED';
  const log = await logTail(join(folder, dumping ? DUMP_LOG : RESTORE_LOG));
  const how = timedOut ? `did not end in ${timeoutMs} ms` : problem;
  throw new SeamlessError(
    code,
    `criu ${dumping ? 'dump' : 'restore'} ${how}: ${reasonIn(log) ?? stderr.trim()}`,
    {
      details: { argv, ended: how, log, stderr: stderr.trim() },
    },
  );
}

/** The last lines of CRIU's log at `path`; empty when there is none. */
export async function logTail(path: string): Promise<string[]> {
  try {
    return (await readFile(path, 'utf8')).trimEnd().split('\n').slice(-LOG_TAIL_LINES);
  } catch {
    return [];
  }
}

/** CRIU says so of each run in a sink: no tun device, no right to raise its own limits. Neither matters. */
const HARMLESS = /tun: Unable to create tun|RLIMIT_NOFILE for self/;

/** The first error in the log is the reason; what follows are its consequences. */
function reasonIn(log: string[]): string | undefined {
  return log
    .find((line) => line.includes('Error') && !HARMLESS.test(line))
    ?.replace(/^.*?Error \([^)]*\): /, '');
}
