/**
 * OVSDB's JSON-RPC (RFC 7047) over any byte stream. Every call has a deadline; a disconnect rejects all calls
 * under way, and the connection is then dead for good.
 */
import type { Duplex } from 'node:stream';
import { SeamlessError } from '../../common/errors.ts';
import { JsonSplitter } from './json-splitter.ts';

export type Operation = { op: string } & Record<string, unknown>;
export type OperationResult = {
  count?: number;
  uuid?: ['uuid', string];
  rows?: Record<string, unknown>[];
};

export interface OvsdbOptions {
  /** For messages: the host's name. */
  name: string;
  /** Milliseconds for each call; 5 s unless told. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

/** Connects to an ovsdb-server; throws `HOST_UNREACHABLE`, `TIMEOUT` or `ABORTED`. */
export async function openOvsdb(
  connect: (signal: AbortSignal) => Promise<Duplex>,
  options: OvsdbOptions,
): Promise<OvsdbConnection> {
  const deadline = AbortSignal.timeout(options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  const signal = options.signal ? AbortSignal.any([options.signal, deadline]) : deadline;
  return new OvsdbConnection(await connect(signal), options);
}

const DEFAULT_TIMEOUT_MS = 5000;
const DATABASE = 'Open_vSwitch';

interface Call {
  resolve(result: unknown): void;
  reject(error: SeamlessError): void;
}

export class OvsdbConnection {
  readonly name: string;
  readonly #stream: Duplex;
  readonly #timeoutMs: number;
  readonly #splitter = new JsonSplitter();
  readonly #calls = new Map<number, Call>();
  #end: SeamlessError | undefined;
  #lastId = 0;

  constructor(stream: Duplex, options: OvsdbOptions) {
    this.name = options.name;
    this.#stream = stream;
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    stream.on('data', (chunk: Buffer) => this.#receive(chunk));
    stream.on('error', (error) => this.#fail(`lost ovsdb-server: ${error.message}`, error));
    stream.on('close', () => this.#fail('ovsdb-server closed the connection'));
  }

  get isOpen(): boolean {
    return this.#end === undefined;
  }

  /**
   * Runs the operations as one transaction, all or none; the result has one entry for each. Throws
   * `HOST_UNREACHABLE` with the server's error and the operations.
   */
  async transact(
    operations: readonly Operation[],
    timeoutMs: number = this.#timeoutMs,
  ): Promise<OperationResult[]> {
    const results = await this.call('transact', [DATABASE, ...operations], timeoutMs);
    if (!Array.isArray(results)) throw this.#unexpected('a list of results', results);
    // A failed commit adds one more entry than there were operations.
    for (const [index, result] of results.entries()) {
      if (!result || typeof result !== 'object' || !('error' in result)) continue;
      const { error, details } = result as { error: string; details?: string };
      throw new SeamlessError('HOST_UNREACHABLE', `${this.name}: ovsdb: ${error}: ${details ?? ''}`, {
        details: { error, operation: operations[index] ?? 'commit', operations },
      });
    }
    return results as OperationResult[];
  }

  /** One JSON-RPC call. */
  call(method: string, params: readonly unknown[], timeoutMs: number = this.#timeoutMs): Promise<unknown> {
    if (this.#end) return Promise.reject(this.#end);
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      const late = () => {
        this.#calls.delete(id);
        reject(new SeamlessError('TIMEOUT', `${this.name}: no answer to ovsdb ${method} in ${timeoutMs} ms`));
      };
      const timer = setTimeout(late, timeoutMs);
      const settle =
        <T>(settled: (value: T) => void) =>
        (value: T) => {
          clearTimeout(timer);
          this.#calls.delete(id);
          settled(value);
        };
      this.#calls.set(id, { resolve: settle(resolve), reject: settle(reject) });
      this.#send({ method, params, id });
    });
  }

  /** Ends the connection; calls under way are rejected. */
  close(): void {
    this.#fail('the connection was closed here');
  }

  #receive(chunk: Buffer): void {
    try {
      for (const text of this.#splitter.push(chunk)) this.#handle(JSON.parse(text));
    } catch (cause) {
      this.#fail(`ovsdb-server sent what is not JSON: ${(cause as Error).message}`, cause);
    }
  }

  #handle(message: {
    id?: unknown;
    method?: string;
    params?: unknown;
    result?: unknown;
    error?: unknown;
  }): void {
    // The server ends connections that leave its echoes unanswered.
    if (message.method === 'echo') return this.#send({ id: message.id, result: message.params, error: null });
    const call = typeof message.id === 'number' ? this.#calls.get(message.id) : undefined;
    if (!call) return;
    if (message.error) call.reject(this.#unexpected('a result', message.error));
    else call.resolve(message.result);
  }

  #send(message: unknown): void {
    if (!this.#end) this.#stream.write(JSON.stringify(message));
  }

  #unexpected(expected: string, got: unknown): SeamlessError {
    return new SeamlessError(
      'HOST_UNREACHABLE',
      `${this.name}: ovsdb: expected ${expected}, got ${JSON.stringify(got)}`,
    );
  }

  #fail(what: string, cause?: unknown): void {
    if (this.#end) return;
    this.#end = new SeamlessError('HOST_UNREACHABLE', `${this.name}: ${what}`, { cause });
    this.#stream.destroy();
    for (const call of [...this.#calls.values()]) call.reject(this.#end);
  }
}
