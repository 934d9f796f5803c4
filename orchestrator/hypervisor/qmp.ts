/**
 * QMP over any byte stream: QEMU's own control protocol, one JSON object a line.
 *
 *   idle ──connect──▶ connecting ──greeting, capabilities──▶ running ──close or loss──▶ idle
 *                          └──────────failure─────────▶ idle
 *
 * QEMU serves one client at a time, so the connection is kept, and made anew when a command finds it gone.
 * A loss rejects every pending command; an error says what was sent and what came back.
 */

import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { SeamlessError } from '../../common/errors.ts';

export type QmpRunState = 'idle' | 'connecting' | 'running' | 'closed';

export interface QmpOptions {
  /** For messages: the VM's name. */
  name: string;
  connect(signal: AbortSignal): Promise<Duplex>;
  onEvent?: (event: string, data: Record<string, unknown>) => void;
}

export interface QmpCall {
  signal?: AbortSignal;
  /** Milliseconds; 5 s unless told. */
  timeoutMs?: number;
}

interface Pending {
  sent: string;
  resolve(result: unknown): void;
  reject(error: SeamlessError): void;
}

const DEFAULT_TIMEOUT_MS = 5000;

export class Qmp {
  readonly #options: QmpOptions;
  readonly #pending = new Map<number, Pending>();
  #stream: Duplex | null = null;
  #connecting: Promise<Duplex> | null = null;
  #closed = false;
  #lastId = 0;
  #lostListener: (why: string) => void = () => {};

  constructor(options: QmpOptions) {
    this.#options = options;
  }

  get runState(): QmpRunState {
    if (this.#closed) return 'closed';
    if (this.#stream) return 'running';
    return this.#connecting ? 'connecting' : 'idle';
  }

  /** Runs a command; gives its `return`. Throws `HOST_UNREACHABLE` (no QEMU), `TIMEOUT`, or `COMMAND_FAILED` (QEMU’s error). */
  async execute<T = unknown>(command: string, args: object = {}, call: QmpCall = {}): Promise<T> {
    const stream = this.#stream ?? (await this.connect(call));
    return (await this.#send(stream, command, args, call)) as T;
  }

  /** Connects unless it is. Several callers share one attempt. */
  connect(call: QmpCall = {}): Promise<Duplex> {
    if (this.#closed) return Promise.reject(this.#lost('it was closed here'));
    if (this.#stream) return Promise.resolve(this.#stream);
    this.#connecting ??= this.#negotiate(call.timeoutMs ?? DEFAULT_TIMEOUT_MS).finally(() => {
      this.#connecting = null;
    });
    return this.#connecting;
  }

  /** Calls `listener` when an open connection breaks; not for `close`, nor for an attempt that fails. */
  onLost(listener: (why: string) => void): void {
    this.#lostListener = listener;
  }

  close(): void {
    this.#closed = true;
    this.#drop(this.#stream, 'it was closed here');
  }

  async #negotiate(timeoutMs: number): Promise<Duplex> {
    const late = new AbortController();
    // Cleared when there is an answer: after a start ten thousand deadlines would otherwise pass at once.
    const timer = setTimeout(() => late.abort(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs);
    try {
      return await this.#greet(late.signal, timeoutMs);
    } finally {
      clearTimeout(timer);
    }
  }

  async #greet(signal: AbortSignal, timeoutMs: number): Promise<Duplex> {
    const stream = await this.#options.connect(signal).catch((cause) => {
      throw this.#lost((cause as Error).message, cause);
    });
    const lines = createInterface({ input: stream });
    const drop = (why: string) => this.#drop(stream, why);
    stream.on('error', (error) => drop(error.message));
    lines.on('error', () => {}); // readline passes the stream’s errors on; they are seen to above
    stream.on('close', () => drop('QEMU closed the connection'));
    try {
      await new Promise<void>((resolve, reject) => {
        signal.addEventListener('abort', () => reject(this.#late('the greeting', timeoutMs)), { once: true });
        stream.once('close', () => reject(this.#lost('QEMU closed the connection')));
        lines.once('line', (line) =>
          'QMP' in parse(line) ? resolve() : reject(this.#lost(`expected a greeting, got ${line}`)),
        );
      });
      lines.on('line', (line) => this.#receive(line));
      await this.#send(stream, 'qmp_capabilities', {}, { timeoutMs });
    } catch (thrown) {
      stream.destroy();
      throw thrown;
    }
    this.#stream = stream;
    return stream;
  }

  #send(stream: Duplex, command: string, args: object, call: QmpCall): Promise<unknown> {
    const id = ++this.#lastId;
    const sent = JSON.stringify({ execute: command, arguments: args, id });
    const timeoutMs = call.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    return new Promise((resolve, reject) => {
      const aborted = () => settle(() => reject(this.#error('ABORTED', `${command} was aborted`, { sent })));
      const timer = setTimeout(() => settle(() => reject(this.#late(command, timeoutMs, sent))), timeoutMs);
      const settle = (then: () => void) => {
        clearTimeout(timer);
        call.signal?.removeEventListener('abort', aborted);
        this.#pending.delete(id);
        then();
      };
      this.#pending.set(id, {
        sent,
        resolve: (result) => settle(() => resolve(result)),
        reject: (error) => settle(() => reject(error)),
      });
      if (call.signal?.aborted) return aborted();
      call.signal?.addEventListener('abort', aborted, { once: true });
      stream.write(`${sent}\n`);
    });
  }

  #receive(line: string): void {
    const message = parse(line);
    if (typeof message.event === 'string') {
      this.#options.onEvent?.(message.event, (message.data ?? {}) as Record<string, unknown>);
      return;
    }
    const pending = this.#pending.get(Number(message.id));
    if (!pending) return; // The answer to a command that was given up.
    if ('return' in message) return pending.resolve(message.return);
    const { desc } = (message.error ?? {}) as { desc?: string };
    const said = desc ?? line;
    pending.reject(this.#error('COMMAND_FAILED', said, { sent: pending.sent, received: line }));
  }

  #drop(stream: Duplex | null, why: string): void {
    stream?.destroy();
    if (stream !== this.#stream && this.#stream) return;
    const wasOpen = this.#stream !== null;
    this.#stream = null;
    for (const pending of [...this.#pending.values()]) {
      pending.reject(this.#error('HOST_UNREACHABLE', `connection lost: ${why}`, { sent: pending.sent }));
    }
    if (wasOpen && !this.#closed) this.#lostListener(why);
  }

  #late(what: string, timeoutMs: number, sent?: string): SeamlessError {
    return this.#error('TIMEOUT', `no ${what} in ${timeoutMs} ms`, sent ? { sent } : {});
  }

  #lost(why: string, cause?: unknown): SeamlessError {
    return this.#error('HOST_UNREACHABLE', why, {}, cause);
  }

  #error(
    code: 'HOST_UNREACHABLE' | 'TIMEOUT' | 'ABORTED' | 'COMMAND_FAILED',
    text: string,
    details: object,
    cause?: unknown,
  ) {
    return new SeamlessError(code, `QMP of ${this.#options.name}: ${text}`, {
      cause,
      details: { ...details },
    });
  }
}

/** The object in a line; an empty one when it is not QMP, which then answers nothing. */
function parse(line: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
