/**
 * One OpenFlow 1.4 connection to a bridge, over any byte stream (a `BRIDGE.mgmt` Unix socket, or one forwarded
 * by ssh). A bridge's management socket is used, and not `set-controller`, because the latter flushes all flows.
 *
 *   openOpenFlow ── hello, features, packet-ins on ──► open ── disconnect, protocol error or close() ──► closed
 *
 * Every call has a deadline. A disconnect rejects all calls under way, and the connection is then dead for good:
 * `KeptConnection` makes new ones.
 */
import type { Duplex } from 'node:stream';
import { SeamlessError } from '../../common/errors.ts';
import { type Draft, encodeMessage, MESSAGE, type Message, MessageSplitter } from './message.ts';
import { decodePacketIn, type PacketIn } from './packet.ts';
import { switchError } from './switch-error.ts';

export interface OpenFlowOptions {
  /** For messages: the bridge's name and host. */
  name: string;
  /** Milliseconds for each call, the handshake included; 5 s unless told. */
  timeoutMs?: number;
  signal?: AbortSignal;
  onPacketIn?: (packet: PacketIn) => void;
}

/** Connects and shakes hands; throws `HOST_UNREACHABLE`, `TIMEOUT` or `ABORTED`. */
export async function openOpenFlow(
  connect: (signal: AbortSignal) => Promise<Duplex>,
  options: OpenFlowOptions,
): Promise<OpenFlowConnection> {
  const deadline = AbortSignal.timeout(options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  const signal = options.signal ? AbortSignal.any([options.signal, deadline]) : deadline;
  const stream = await connect(signal);
  const connection = new OpenFlowConnection(stream, options);
  const giveUp = () => connection.close();
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    if (signal.aborted) giveUp();
    await connection.handshake();
    return connection;
  } catch (error) {
    connection.close();
    throw error;
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}

const DEFAULT_TIMEOUT_MS = 5000;
const MISS_SEND_ALL = 0xffff;
const PACKET_IN_MASTER = 1;
const REASON_APPLY_ACTION = 1 << 1;
const LATE_ERRORS_KEPT = 64;

interface Call {
  /** Of the messages sent along with the one that is answered: an error on any of them fails the call. */
  sent: Map<number, { type: number; bytes: Buffer }>;
  parts: Message[];
  failure: SeamlessError | undefined;
  settle(error: SeamlessError | undefined): void;
}

export class OpenFlowConnection {
  readonly name: string;
  /** Fulfilled, never rejected, with the reason when the connection has ended. */
  readonly closed: Promise<SeamlessError>;
  readonly #stream: Duplex;
  readonly #timeoutMs: number;
  readonly #onPacketIn: ((packet: PacketIn) => void) | undefined;
  readonly #splitter = new MessageSplitter();
  /** By the transaction id of the message that will be answered. */
  readonly #calls = new Map<number, Call>();
  /** Errors on messages of calls that are over (a bundle's messages fail at its commit), by transaction id. */
  readonly #lateErrors = new Map<number, SeamlessError>();
  readonly #sawHello: Promise<void>;
  #helloSeen: () => void = () => {};
  #reportClosed: (reason: SeamlessError) => void = () => {};
  #end: SeamlessError | undefined;
  #lastXid = 0;

  constructor(stream: Duplex, options: OpenFlowOptions) {
    this.name = options.name;
    this.#stream = stream;
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.#onPacketIn = options.onPacketIn;
    this.closed = new Promise((resolve) => {
      this.#reportClosed = resolve;
    });
    this.#sawHello = new Promise((resolve) => {
      this.#helloSeen = resolve;
    });
    stream.on('data', (chunk: Buffer) => this.#receive(chunk));
    stream.on('error', (error) => this.#fail(`lost the switch: ${error.message}`, error));
    stream.on('close', () => this.#fail('the switch closed the connection'));
  }

  get isOpen(): boolean {
    return this.#end === undefined;
  }

  /** Called by `openOpenFlow` once, before anything else. */
  async handshake(): Promise<void> {
    this.#write({ type: MESSAGE.hello, body: Buffer.from([0, 1, 0, 8, 0, 0, 0, 1 << 5]) });
    const dead = this.closed.then((reason) => Promise.reject(reason));
    await Promise.race([this.#sawHello, dead]);
    // A management connection gets no packet-ins until it says how much of each it wants.
    await this.exchange([setConfig(), setAsync()], { type: MESSAGE.featuresRequest, body: Buffer.alloc(0) });
  }

  /** Proves that the switch answers. */
  async echo(timeoutMs?: number): Promise<void> {
    await this.exchange([], { type: MESSAGE.echoRequest, body: Buffer.alloc(0) }, timeoutMs);
  }

  /** Waits until the switch has handled all that was sent before. */
  async barrier(): Promise<void> {
    await this.exchange([], barrierRequest());
  }

  /** Sends messages that have no answer of their own, and a barrier; throws what the switch says against any of them. */
  async send(...drafts: Draft[]): Promise<void> {
    await this.exchange(drafts, barrierRequest());
  }

  /** The bodies of all parts of a multipart reply, without their multipart header. */
  async requestParts(draft: Draft): Promise<Buffer[]> {
    const { replies } = await this.exchange([], draft);
    return replies.map((part) => part.body.subarray(8));
  }

  /**
   * Sends `before` and then `last` in one write and waits for the answer to `last`. The switch handles messages in
   * order, so all errors on `before` are known by then; the first is thrown. `xids` are those of `before`.
   */
  async exchange(
    before: readonly Draft[],
    last: Draft,
    timeoutMs: number = this.#timeoutMs,
  ): Promise<{ replies: Message[]; xids: number[] }> {
    if (this.#end) throw this.#end;
    const sent: Call['sent'] = new Map();
    for (const draft of [...before, last]) {
      const xid = this.#nextXid();
      sent.set(xid, { type: draft.type, bytes: encodeMessage(draft, xid) });
    }
    const xids = [...sent.keys()];
    const answered = xids[xids.length - 1] as number;
    const parts: Message[] = [];
    await new Promise<void>((resolve, reject) => {
      const late = () => settle(new SeamlessError('TIMEOUT', `${this.name}: no answer in ${timeoutMs} ms`));
      const timer = setTimeout(late, timeoutMs);
      const settle = (error: SeamlessError | undefined) => {
        clearTimeout(timer);
        this.#calls.delete(answered);
        if (error) reject(error);
        else resolve();
      };
      this.#calls.set(answered, { sent, parts, failure: undefined, settle });
      this.#stream.write(Buffer.concat([...sent.values()].map((message) => message.bytes)));
    });
    return { replies: parts, xids: xids.slice(0, -1) };
  }

  /** The error that came for one of these messages after their call was over. */
  takeLateError(xids: readonly number[]): SeamlessError | undefined {
    for (const xid of xids) {
      const error = this.#lateErrors.get(xid);
      if (error) return error;
    }
    return undefined;
  }

  /** Ends the connection; calls under way are rejected. */
  close(): void {
    this.#fail('the connection was closed here');
  }

  #receive(chunk: Buffer): void {
    try {
      for (const message of this.#splitter.push(chunk)) this.#handle(message);
    } catch (cause) {
      this.#fail(`the switch sent what is not OpenFlow 1.4: ${(cause as Error).message}`, cause);
    }
  }

  #handle(message: Message): void {
    switch (message.type) {
      case MESSAGE.hello:
        if (!offersVersion14(message)) return this.#fail('the switch does not speak OpenFlow 1.4');
        return this.#helloSeen();
      case MESSAGE.echoRequest:
        return this.#write({ type: MESSAGE.echoReply, body: message.body }, message.xid);
      case MESSAGE.packetIn:
        return this.#onPacketIn?.(decodePacketIn(message.body));
      case MESSAGE.error:
        return this.#handleError(message);
    }
    const call = this.#calls.get(message.xid);
    if (!call) return;
    call.parts.push(message);
    const more = message.type === MESSAGE.multipartReply && (message.body.readUInt16BE(2) & 1) === 1;
    if (!more) call.settle(call.failure);
  }

  #handleError(message: Message): void {
    for (const [answered, call] of this.#calls) {
      const sent = call.sent.get(message.xid);
      if (!sent) continue;
      call.failure ??= switchError(message, sent);
      if (message.xid === answered) call.settle(call.failure);
      return;
    }
    const error = switchError(message, undefined);
    if (message.body.readUInt16BE(0) === 0) return this.#fail(error.message, error);
    this.#lateErrors.set(message.xid, error);
    for (const xid of this.#lateErrors.keys()) {
      if (this.#lateErrors.size > LATE_ERRORS_KEPT) this.#lateErrors.delete(xid);
    }
  }

  #write(draft: Draft, xid: number = this.#nextXid()): void {
    if (!this.#end) this.#stream.write(encodeMessage(draft, xid));
  }

  #fail(what: string, cause?: unknown): void {
    if (this.#end) return;
    this.#end = new SeamlessError('HOST_UNREACHABLE', `${this.name}: ${what}`, { cause });
    this.#stream.destroy();
    for (const call of [...this.#calls.values()]) call.settle(this.#end);
    this.#reportClosed(this.#end);
  }

  #nextXid(): number {
    this.#lastXid = (this.#lastXid + 1) >>> 0;
    return this.#lastXid;
  }
}

function barrierRequest(): Draft {
  return { type: MESSAGE.barrierRequest, body: Buffer.alloc(0) };
}

function setConfig(): Draft {
  const body = Buffer.alloc(4);
  body.writeUInt16BE(MISS_SEND_ALL, 2);
  return { type: MESSAGE.setConfig, body };
}

function setAsync(): Draft {
  const body = Buffer.alloc(8);
  body.writeUInt16BE(PACKET_IN_MASTER, 0);
  body.writeUInt16BE(8, 2);
  body.writeUInt32BE(REASON_APPLY_ACTION, 4);
  return { type: MESSAGE.setAsync, body };
}

/** A version bitmap decides when there is one; else the header's version is the highest offered. */
function offersVersion14({ version, body }: Message): boolean {
  let at = 0;
  while (at + 8 <= body.length) {
    const size = body.readUInt16BE(at + 2);
    if (size < 4) break;
    if (body.readUInt16BE(at) === 1) return (body.readUInt32BE(at + 4) & (1 << 5)) !== 0;
    at += size + ((8 - (size % 8)) % 8);
  }
  return version >= 5;
}
