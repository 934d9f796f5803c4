/**
 * Runs a command without a shell. A failure carries argv, exit code or signal, and the end of its output:
 * the operator sees what the tool said, not only that it failed.
 */
import { execa } from 'execa';
import { SeamlessError } from './errors.ts';

export interface ExecOptions {
  /** Aborts the command with SIGTERM, then SIGKILL after a second. */
  signal?: AbortSignal;
  /** Milliseconds after which the command is ended; 60 s unless told. */
  timeoutMs?: number;
  input?: string;
  cwd?: string;
  env?: Record<string, string>;
}

export interface ExecResult {
  stdout: string;
  stderr: string;
}

/** `exec` below, or a quicker way to the same for whoever starts many (criu/launcher.ts). */
export type Exec = (
  argv: readonly [string, ...string[]],
  options?: Pick<ExecOptions, 'input' | 'cwd' | 'timeoutMs'>,
) => Promise<ExecResult>;

const OUTPUT_TAIL_CHARS = 4000;

/** Runs `argv`; resolves with its output when it exits 0, else throws `COMMAND_FAILED` or `TIMEOUT`. */
export async function exec(
  argv: readonly [string, ...string[]],
  options: ExecOptions = {},
): Promise<ExecResult> {
  const [file, ...args] = argv;
  const result = await execa(file, args, {
    reject: false,
    timeout: options.timeoutMs ?? 60_000,
    forceKillAfterDelay: 1000,
    stripFinalNewline: true,
    stdin: options.input === undefined ? 'ignore' : 'pipe',
    ...(options.input === undefined ? {} : { input: options.input }),
    ...(options.signal ? { cancelSignal: options.signal } : {}),
    ...(options.cwd ? { cwd: options.cwd } : {}),
    ...(options.env ? { env: options.env } : {}),
  });
  if (!result.failed) return { stdout: result.stdout, stderr: result.stderr };
  const ended = result.timedOut
    ? 'timed out'
    : result.isCanceled
      ? 'was aborted'
      : result.signal
        ? `was ended by ${result.signal}`
        : `exited with ${result.exitCode ?? result.code ?? 'an unknown status'}`;
  const tail = `${result.stderr ?? ''}\n${result.stdout ?? ''}`.trim().slice(-OUTPUT_TAIL_CHARS);
  throw new SeamlessError(
    result.timedOut ? 'TIMEOUT' : result.isCanceled ? 'ABORTED' : 'COMMAND_FAILED',
    `${argv.join(' ')} ${ended}${tail ? `: ${lastLine(tail)}` : ''}`,
    {
      cause: result,
      details: { argv: [...argv], exitCode: result.exitCode, signal: result.signal, output: tail },
    },
  );
}

function lastLine(text: string): string {
  return text.slice(text.lastIndexOf('\n') + 1);
}
