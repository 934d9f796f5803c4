/** A client program that is kept: bytes in, bytes out, and whether its TCP connection still is acknowledged. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { SeamlessError } from '../../../common/errors.ts';
import { exec } from '../../../common/exec.ts';

const EXPECT_MS = 20_000;
const POLL_MS = 20;

export class Connection {
  readonly #netns: string;
  readonly #name: string;
  readonly #child: ChildProcessWithoutNullStreams;
  #received = '';
  #seen = 0;
  #ended: string | null = null;

  /** @param netns path of the network namespace to run argv in */
  constructor(netns: string, argv: readonly string[]) {
    this.#netns = netns;
    this.#name = argv.join(' ');
    this.#child = spawn('nsenter', [`--net=${netns}`, '--', ...argv], { stdio: 'pipe' });
    const take = (text: string) => {
      this.#received += text;
    };
    this.#child.stdout.setEncoding('latin1').on('data', take);
    this.#child.stderr.setEncoding('latin1').on('data', take);
    this.#child.stdin.on('error', () => {}); // it ended: `expect` says so
    this.#child.once('error', (error) => (this.#ended = error.message));
    this.#child.once('close', (code, signal) => (this.#ended = signal ?? `exit ${code}`));
  }

  /** All that came so far, standard error included, one character per byte. */
  get received(): string {
    return this.#received;
  }

  send(text: string): void {
    this.#child.stdin.write(text, 'latin1');
  }

  /** Waits for `pattern` in what came since the last match; what is before the match's end counts as read. */
  async expect(pattern: RegExp, timeoutMs = EXPECT_MS): Promise<RegExpExecArray> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const found = pattern.exec(this.#received.slice(this.#seen));
      if (found) {
        this.#seen += found.index + found[0].length;
        return found;
      }
      if (this.#ended !== null || performance.now() > deadline) {
        const got = JSON.stringify(this.#received.slice(this.#seen).slice(-300));
        const how = this.#ended === null ? `within ${timeoutMs} ms` : `(it ended: ${this.#ended})`;
        throw new SeamlessError('TIMEOUT', `Expected ${pattern} from ${this.#name} ${how}, got ${got}`);
      }
      await delay(POLL_MS);
    }
  }

  /** Sends and waits for the answer. */
  ask(text: string, answer: RegExp, timeoutMs = EXPECT_MS): Promise<RegExpExecArray> {
    this.send(text);
    return this.expect(answer, timeoutMs);
  }

  /** Milliseconds since the other side last acknowledged anything; throws when there is no established TCP connection any more. */
  async sinceLastAck(): Promise<number> {
    // ss leaves out what is 0: acknowledged within this millisecond.
    return Number(/\blastack:(\d+)/.exec(await this.socket())?.[1] ?? 0);
  }

  /** What ss says of its established TCP connection; throws when there is none any more. */
  async socket(): Promise<string> {
    const { stdout } = await exec([
      'nsenter',
      `--net=${this.#netns}`,
      'ss',
      '-HtinpoO',
      'state',
      'established',
    ]);
    const pids = family(this.#child.pid ?? -1);
    const line = stdout.split('\n').find((text) => pids.some((pid) => text.includes(`pid=${pid},`)));
    if (line) return line;
    const end = `${this.#ended ?? 'it runs still'}, having said ${JSON.stringify(this.#received.slice(-200))}`;
    throw new SeamlessError(
      'COMMAND_FAILED',
      `The connection of ${this.#name} is no longer established (${end})`,
    );
  }

  async close(): Promise<void> {
    this.#child.kill('SIGTERM');
    const deadline = performance.now() + 2000;
    while (this.#ended === null && performance.now() < deadline) await delay(POLL_MS);
    if (this.#ended === null) this.#child.kill('SIGKILL');
  }
}

/** A process and its children: sftp has ssh connect. */
function family(pid: number): number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean);
    return [pid, ...children.flatMap((child) => family(Number(child)))];
  } catch {
    return [];
  }
}
