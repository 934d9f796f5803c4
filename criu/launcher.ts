/**
 * Starts the commands of a wake by a small process of its own (launcher/launcher.c): each one that Node starts itself copies its page
 * tables and holds up everybody else for milliseconds, which trees of one VM and twenty wakes at once wait for one after the other.
 * The same rules as in common/exec.ts. One that ends with commands under way leaves them to themselves: nobody hears of their end, so the
 * agent must end as well, and the next one finds out what became of them.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { SeamlessError } from '../common/errors.ts';
import type { Exec } from '../common/exec.ts';

/** The number under which a command sees the first of its descriptors. */
export const FIRST_INHERITED_FD = 3;

/** `npm run build` makes it. */
export const LAUNCHER_PROGRAM = join(import.meta.dirname, '../build/launcher');

/** How a command ended. */
export interface Ending {
  /** `null`: with status 0. */
  problem: string | null;
  timedOut: boolean;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  input?: string;
  cwd?: string;
  env?: Record<string, string>;
  /** Of this process, to be open until the command has begun; it gets them from `FIRST_INHERITED_FD` on, in this order. */
  descriptors?: readonly number[];
  timeoutMs: number;
}

export interface Launcher {
  /** As common/exec.ts does it. */
  exec: Exec;
  /** Never rejects. */
  run(argv: readonly string[], options: RunOptions): Promise<Ending>;
  close(): void;
}

interface Answer {
  kind: number;
  number: number;
  stdout: string;
  stderr: string;
}

type Child = ChildProcessByStdio<Writable, Readable, null>;
const [RUN, KILL] = [1, 2];
const [BY_SIGNAL, NOT_STARTED] = [1, 2];
const DEADLINE_MS = 60_000;
const TAIL_CHARS = 4000;

/** @param lost it ended without having been closed. */
export function openLauncher(lost: (reason: string) => void): Launcher {
  let child: Child | null = null;
  let last = 0;
  let isClosed = false;
  const waiting = new Map<number, (answer: Answer) => void>();

  const start = (): Child => {
    const started = spawn(LAUNCHER_PROGRAM, { stdio: ['pipe', 'pipe', 'inherit'], cwd: '/', detached: true });
    let rest: Buffer = Buffer.alloc(0);
    started.stdout.on('data', (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk]);
      for (let length = 0; rest.length >= 4 && rest.length >= 4 + (length = rest.readUInt32LE(0)); ) {
        const frame = rest.subarray(4, 4 + length);
        waiting.get(frame.readUInt32LE(0))?.(answerIn(frame));
        rest = rest.subarray(4 + length);
      }
    });
    const ended = (reason: string) => {
      if (child === started && !isClosed) lost(reason);
      child = null;
    };
    started.once('error', ({ message }) => ended(message));
    started.once('close', (code, signal) => ended(`it ended with ${code ?? signal}`));
    started.stdin.on('error', () => {}); // `close` tells
    started.unref();
    return started;
  };
  const tell = (id: number, operation: number, body: Buffer) => {
    child ??= start();
    const head = Buffer.alloc(12);
    head.writeUInt32LE(8 + body.length, 0);
    head.writeUInt32LE(id, 4);
    head.writeUInt32LE(operation, 8);
    child.stdin.write(Buffer.concat([head, body]));
  };

  const launcher: Launcher = {
    async run(argv, { input = '', cwd = '/', env = {}, descriptors = [], timeoutMs }) {
      const id = ++last;
      let timedOut = false;
      const timer = setTimeout(() => {
        timedOut = true;
        tell(id, KILL, number(constants.signals.SIGTERM));
      }, timeoutMs);
      const answer = await new Promise<Answer>((resolve) => {
        waiting.set(id, resolve);
        tell(id, RUN, request(argv, cwd, env, descriptors, input));
      });
      clearTimeout(timer);
      waiting.delete(id);
      return {
        problem: problemOf(answer),
        timedOut,
        stdout: answer.stdout,
        stderr: answer.stderr,
      };
    },
    async exec(argv, { timeoutMs = DEADLINE_MS, ...options } = {}) {
      const { problem, timedOut, stdout, stderr } = await launcher.run(argv, { ...options, timeoutMs });
      if (problem === null) return { stdout: stdout.trimEnd(), stderr: stderr.trimEnd() };
      const output = `${stderr}\n${stdout}`.trim().slice(-TAIL_CHARS);
      const how = timedOut ? 'timed out' : problem;
      throw new SeamlessError(
        timedOut ? 'TIMEOUT' : 'COMMAND_FAILED',
        `${argv[0]} ${how}${output ? `: ${output.slice(output.lastIndexOf('\n') + 1)}` : ''}`,
        { details: { argv: [...argv], ended: problem, output } },
      );
    },
    close() {
      isClosed = true;
      child?.stdin.end();
    },
  };
  return launcher;
}

function request(
  argv: readonly string[],
  cwd: string,
  env: Record<string, string>,
  descriptors: readonly number[],
  input: string,
): Buffer {
  const own = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const texts = [cwd, ...own, ...argv].map((text) => `${text}\0`).join('');
  const numbers = [own.length, argv.length, descriptors.length, ...descriptors].map(number);
  return Buffer.concat([...numbers, Buffer.from(texts + input)]);
}

function number(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function answerIn(frame: Buffer): Answer {
  const end = 16 + frame.readUInt32LE(12);
  return {
    kind: frame.readUInt32LE(4),
    number: frame.readUInt32LE(8),
    stdout: frame.toString('utf8', 16, end),
    stderr: frame.toString('utf8', end),
  };
}

function problemOf({ kind, number: value }: Answer): string | null {
  if (kind === NOT_STARTED) return `could not start: error ${value}`;
  if (kind === BY_SIGNAL) return `was ended by signal ${value}`;
  return value === 0 ? null : `exited with ${value}`;
}
