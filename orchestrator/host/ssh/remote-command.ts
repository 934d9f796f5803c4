/**
 * Runs a command on a host over a channel, as common/exec.ts does here.
 *
 * What is sent says the command's process group first, by which it is ended when it is late or no longer wanted: sshd
 * passes signals on for other accounts, but not for root. `timeout` around it ends it also when the connection is
 * lost and nobody is left to do so.
 */
import { SeamlessError } from '../../../common/errors.ts';
import type { RunOptions } from '../transport.ts';
import type { RemoteProcess, SshSession } from './session.ts';
import { shellWords } from './shell-words.ts';

export interface RemoteCommand {
  argv: readonly [string, ...string[]];
  options: RunOptions;
  /** Aborts with the reason when the command is late or no longer wanted. */
  over: AbortSignal;
  timeoutMs: number;
}

const MARK = 'seamless-group:';
/** Seconds that the host's own deadline is later than ours. */
const BACKSTOP_S = 2;
const KILL_AFTER_MS = 1000;
/** How long the end of a command that was told to end is waited for. */
const END_MS = 3000;
const OUTPUT_MOST_BYTES = 100_000_000;
const OUTPUT_TAIL_CHARS = 4000;

/** Throws `COMMAND_FAILED`, `TIMEOUT` or `ABORTED` with the end of the output, `HOST_UNREACHABLE` when the connection is lost. */
export async function runRemote(
  session: SshSession,
  { argv, options, over, timeoutMs }: RemoteCommand,
): Promise<{ stdout: string; stderr: string }> {
  const guard = ['timeout', '-k', '1', String(Math.ceil(timeoutMs / 1000) + BACKSTOP_S)];
  const process = await session.exec(`echo ${MARK}$$; exec ${shellWords([...guard, ...argv])}`);
  const { channel, outcome } = process;
  const stdout = collect(channel);
  const stderr = collect(channel.stderr);
  channel.end(options.input ?? '');
  const stop = { why: '', timer: undefined as NodeJS.Timeout | undefined };
  const end = (why: string) => {
    if (stop.why) return;
    stop.why = why;
    const kill = (signal: 'TERM' | 'KILL') => endGroup(session, groupOf(stdout.text()), signal);
    kill('TERM');
    stop.timer = setTimeout(() => kill('KILL'), KILL_AFTER_MS);
  };
  const overflowed = () => end(`wrote more than ${OUTPUT_MOST_BYTES} bytes`);
  stdout.onOverflow = overflowed;
  stderr.onOverflow = overflowed;
  const isOver = () => end(over.reason === 'late' ? 'timed out' : 'was aborted');
  over.addEventListener('abort', isOver, { once: true });
  if (over.aborted) isOver();
  try {
    await ended(process, session.lost, over);
    const output = { stdout: withoutMark(stdout.text()), stderr: stripFinalNewline(stderr.text()) };
    if (!stop.why && outcome.code === 0) return output;
    throw failure(argv, stop.why, outcome, output);
  } finally {
    clearTimeout(stop.timer);
    over.removeEventListener('abort', isOver);
    channel.close();
  }
}

/** Resolves when the command has ended; a little after `over` when it does not end. */
function ended({ channel }: RemoteProcess, lost: AbortSignal, over: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    const settle = (then: () => void) => {
      clearTimeout(timer);
      lost.removeEventListener('abort', gone);
      over.removeEventListener('abort', isOver);
      then();
    };
    const gone = () => settle(() => reject(lost.reason));
    const isOver = () => {
      timer = setTimeout(() => settle(resolve), END_MS);
    };
    channel.on('close', () => settle(() => (lost.aborted ? reject(lost.reason) : resolve())));
    lost.addEventListener('abort', gone, { once: true });
    over.addEventListener('abort', isOver, { once: true });
    if (lost.aborted) gone();
    else if (over.aborted) isOver();
  });
}

/** Best effort: what it leaves, `timeout` ends. */
function endGroup(session: SshSession, group: string | undefined, signal: 'TERM' | 'KILL'): void {
  if (!group) return;
  session.exec(`kill -${signal} -${group}`).then(
    ({ channel }) => channel.resume().stderr.resume(),
    () => {},
  );
}

function collect(stream: NodeJS.ReadableStream) {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const collected = { text: () => Buffer.concat(chunks).toString(), onOverflow: () => {} };
  stream.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > OUTPUT_MOST_BYTES) collected.onOverflow();
    else chunks.push(chunk);
  });
  return collected;
}

function groupOf(stdout: string): string | undefined {
  return new RegExp(`^${MARK}(\\d+)$`, 'm').exec(stdout)?.[1];
}

/** What the account's shell may have said before the mark (a talkative .bashrc) is not the command's either. */
function withoutMark(stdout: string): string {
  const mark = stdout.indexOf(MARK);
  return mark < 0 ? stdout : stripFinalNewline(stdout.slice(stdout.indexOf('\n', mark) + 1));
}

function stripFinalNewline(text: string): string {
  return text.replace(/\r?\n$/, '');
}

function failure(
  argv: readonly string[],
  stopped: string,
  { code, signal }: RemoteProcess['outcome'],
  { stdout, stderr }: { stdout: string; stderr: string },
): SeamlessError {
  const how = stopped || (signal ? `was ended by ${signal}` : `exited with ${code ?? 'an unknown status'}`);
  const tail = `${stderr}\n${stdout}`.trim().slice(-OUTPUT_TAIL_CHARS);
  const lastLine = tail.slice(tail.lastIndexOf('\n') + 1);
  const errorCode =
    stopped === 'timed out' ? 'TIMEOUT' : stopped === 'was aborted' ? 'ABORTED' : 'COMMAND_FAILED';
  return new SeamlessError(errorCode, `${argv.join(' ')} ${how}${tail ? `: ${lastLine}` : ''}`, {
    details: { argv: [...argv], exitCode: code ?? undefined, signal, output: tail },
  });
}
