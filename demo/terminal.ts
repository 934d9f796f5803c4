/**
 * A child program that a person would sit at: type into it, wait until something appears.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { SeamlessError } from '../common/errors.ts';

export class Terminal {
  readonly name: string;
  readonly #child: ChildProcessWithoutNullStreams;
  #output = '';
  #exit: string | null = null;
  readonly #watchers = new Set<() => void>();

  constructor(name: string, argv: readonly [string, ...string[]]) {
    this.name = name;
    const [file, ...args] = argv;
    this.#child = spawn(file, args, { stdio: 'pipe' });
    const take = (text: string) => {
      this.#output += text;
      for (const watch of this.#watchers) watch();
    };
    this.#child.stdout.setEncoding('utf8').on('data', take);
    this.#child.stderr.setEncoding('utf8').on('data', take);
    this.#child.stdin.on('error', () => {}); // it ended; `exited` says so
    this.#child.once('error', (error) => this.#ended(error.message));
    this.#child.once('close', (code, signal) => this.#ended(signal ?? `exit ${code}`));
  }

  /** All that it has printed so far. */
  get output(): string {
    return this.#output;
  }

  /** How it ended, or `null` while it runs. */
  get exited(): string | null {
    return this.#exit;
  }

  type(text: string): void {
    this.#child.stdin.write(text);
  }

  /** Waits until `pattern` appears in what it prints from `from` (an earlier `output.length`) on. */
  async expect(pattern: RegExp, timeoutMs: number, from = 0): Promise<RegExpExecArray> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const found = pattern.exec(this.#output.slice(from));
      if (found) return found;
      const ended = this.#exit === null ? '' : ` (it ended: ${this.#exit})`;
      if (this.#exit !== null || Date.now() >= deadline) {
        const tail = JSON.stringify(this.#output.slice(from).slice(-400));
        throw new SeamlessError(
          'TIMEOUT',
          `Expected ${this.name} to print ${pattern} within ${timeoutMs} ms${ended}, got ${tail}`,
        );
      }
      await this.#change(deadline - Date.now());
    }
  }

  /** Rejects when it ends, with what it said last. */
  async untilEnd(): Promise<never> {
    while (this.#exit === null) await this.#change(60_000);
    throw new SeamlessError(
      'COMMAND_FAILED',
      `${this.name} ended (${this.#exit}): ${this.#output.slice(-400).trim()}`,
    );
  }

  async close(): Promise<void> {
    this.#child.kill('SIGTERM');
    const deadline = Date.now() + 2000;
    while (this.#exit === null && Date.now() < deadline) await this.#change(deadline - Date.now());
    if (this.#exit === null) this.#child.kill('SIGKILL');
  }

  #ended(how: string): void {
    this.#exit ??= how;
    for (const watch of this.#watchers) watch();
  }

  #change(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#watchers.delete(done);
        resolve();
      };
      const timer = setTimeout(done, timeoutMs);
      this.#watchers.add(done);
    });
  }
}
