/**
 * The line of commands to one packet buffer: a command is a line, its answer a line of JSON, one at a time. The
 * connection is opened when needed and kept; after a break the next command opens a new one.
 */

import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { SeamlessError } from '../../common/errors.ts';
import type { HostTransport } from '../host/transport.ts';

export class ControlLine {
  readonly #host: HostTransport;
  readonly #path: string;
  #stream: Duplex | undefined;
  /** The command before: the next one waits for it. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(host: HostTransport, path: string) {
    this.#host = host;
    this.#path = path;
  }

  /**
   * Sends one command and waits for its answer. Throws `HOST_UNREACHABLE` when there is no buffer, `TIMEOUT`, or
   * `COMMAND_FAILED` with the buffer's words.
   */
  request(command: string, timeoutMs: number): Promise<Record<string, unknown>> {
    const answer = this.#last.then(() => this.#exchange(command, timeoutMs));
    this.#last = answer.catch(() => {});
    return answer;
  }

  /** Waits until a buffer listens; throws the last refusal when it does not by then. */
  async ready(timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      try {
        await this.request('status', timeoutMs);
        return;
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await delay(RETRY_MS);
      }
    }
  }

  close(): void {
    this.#stream?.destroy();
    this.#stream = undefined;
  }

  async #exchange(command: string, timeoutMs: number): Promise<Record<string, unknown>> {
    const signal = AbortSignal.timeout(timeoutMs);
    const stream = await this.#open(signal);
    stream.write(`${command}\n`);
    let line: string;
    try {
      line = await readLine(stream, signal);
    } catch (cause) {
      // A late answer must not be taken for that of the next command.
      this.close();
      const late = signal.aborted ? `no answer in ${timeoutMs} ms` : (cause as Error).message;
      const code = signal.aborted ? 'TIMEOUT' : 'HOST_UNREACHABLE';
      throw new SeamlessError(code, `packet buffer at ${this.#path}: ${command}: ${late}`, { cause });
    }
    const answer = JSON.parse(line) as Record<string, unknown>;
    if (typeof answer.error !== 'string') return answer;
    throw new SeamlessError('COMMAND_FAILED', `packet buffer at ${this.#path}: ${answer.error}`, {
      details: { command, answer },
    });
  }

  async #open(signal: AbortSignal): Promise<Duplex> {
    if (this.#stream && !this.#stream.destroyed && this.#stream.readable) return this.#stream;
    const stream = await this.#host.connect(this.#path, signal);
    stream.on('error', () => {}); // seen by the command under way, or by the next one
    this.#stream = stream;
    return stream;
  }
}

const RETRY_MS = 5;

function readLine(stream: Duplex, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const settle = (done: () => void) => {
      stream.off('data', data).off('close', closed);
      signal.removeEventListener('abort', aborted);
      done();
    };
    const data = (chunk: Buffer) => {
      text += chunk.toString();
      const end = text.indexOf('\n');
      if (end >= 0) settle(() => resolve(text.slice(0, end)));
    };
    const closed = () => settle(() => reject(new Error('it closed the connection')));
    const aborted = () => settle(() => reject(signal.reason as Error));
    stream.on('data', data).on('close', closed);
    signal.addEventListener('abort', aborted, { once: true });
  });
}
