/**
 * A connection to one bridge that is opened again, with back-off, whenever it breaks, and that says when it is down.
 *
 *   start() ─► connecting ─► up ─► (lost) ─► waiting 50 ms … 2 s ─► connecting …        close() ends it from anywhere
 *
 * An echo every few seconds finds a peer that has gone without closing. After each reconnect packet-ins are on again;
 * whether the flows are still there is for `onUp` to see to, because a restarted switch has forgotten them.
 */

import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { asSeamlessError, SeamlessError } from '../../common/errors.ts';
import { type OpenFlowConnection, openOpenFlow } from './connection.ts';
import type { PacketIn } from './packet.ts';

export interface KeptConnectionOptions {
  /** The bridge and its host, for messages. */
  name: string;
  connect: (signal: AbortSignal) => Promise<Duplex>;
  onUp?: (connection: OpenFlowConnection) => void;
  onDown?: (reason: SeamlessError) => void;
  /** Milliseconds for each call; 5 s unless told. */
  timeoutMs?: number;
  /** Milliseconds between echoes; 5 s unless told. */
  echoEveryMs?: number;
}

const BACKOFF_FIRST_MS = 50;
const BACKOFF_MOST_MS = 2000;

export class KeptConnection {
  readonly name: string;
  readonly #options: KeptConnectionOptions;
  readonly #ended = new AbortController();
  readonly #packetInListeners = new Set<(packet: PacketIn) => void>();
  #current: OpenFlowConnection | undefined;
  #lastFailure: SeamlessError | undefined;
  #waiting = new Set<(connection: OpenFlowConnection) => void>();
  #loop: Promise<void> | undefined;

  constructor(options: KeptConnectionOptions) {
    this.name = options.name;
    this.#options = options;
  }

  /** Begins to connect, in the background. */
  start(): this {
    this.#loop ??= this.#keep();
    return this;
  }

  get isUp(): boolean {
    return this.#current?.isOpen === true;
  }

  /** Hears every packet-in, of every connection to come; returns the function that ends it. */
  onPacketIn(listener: (packet: PacketIn) => void): () => void {
    this.#packetInListeners.add(listener);
    return () => this.#packetInListeners.delete(listener);
  }

  /** The open connection, waiting at most `timeoutMs` for one; throws `HOST_UNREACHABLE` with the last failure. */
  async connection(timeoutMs = this.#options.timeoutMs ?? 5000): Promise<OpenFlowConnection> {
    if (this.#current?.isOpen) return this.#current;
    if (this.#ended.signal.aborted) {
      throw new SeamlessError('HOST_UNREACHABLE', `${this.name}: the connection was closed here`);
    }
    return new Promise((resolve, reject) => {
      const got = (connection: OpenFlowConnection) => {
        clearTimeout(timer);
        this.#waiting.delete(got);
        resolve(connection);
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(got);
        const why = this.#lastFailure?.message ?? 'not connected yet';
        reject(
          new SeamlessError('HOST_UNREACHABLE', `${this.name}: no switch in ${timeoutMs} ms: ${why}`, {
            cause: this.#lastFailure,
          }),
        );
      }, timeoutMs);
      this.#waiting.add(got);
    });
  }

  /** Ends the connection and the attempts to make one. */
  async close(): Promise<void> {
    this.#ended.abort();
    this.#current?.close();
    await this.#loop;
  }

  async #keep(): Promise<void> {
    let backoffMs = BACKOFF_FIRST_MS;
    while (!this.#ended.signal.aborted) {
      try {
        const connection = await openOpenFlow(this.#options.connect, {
          name: this.name,
          timeoutMs: this.#options.timeoutMs ?? 5000,
          signal: this.#ended.signal,
          onPacketIn: (packet) => {
            for (const listener of this.#packetInListeners) listener(packet);
          },
        });
        backoffMs = BACKOFF_FIRST_MS;
        await this.#serve(connection);
      } catch (error) {
        this.#lastFailure = asSeamlessError(error);
      }
      await delay(backoffMs, undefined, { signal: this.#ended.signal }).catch(() => {});
      backoffMs = Math.min(backoffMs * 2, BACKOFF_MOST_MS);
    }
  }

  async #serve(connection: OpenFlowConnection): Promise<void> {
    this.#current = connection;
    const beat = setInterval(() => {
      connection.echo().catch(() => connection.close());
    }, this.#options.echoEveryMs ?? 5000);
    beat.unref();
    this.#options.onUp?.(connection);
    for (const got of [...this.#waiting]) got(connection);
    this.#lastFailure = await connection.closed;
    clearInterval(beat);
    this.#current = undefined;
    this.#options.onDown?.(this.#lastFailure);
  }
}
