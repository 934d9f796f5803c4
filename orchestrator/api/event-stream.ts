/**
 * One journal to many streams. Nothing is queued here for a slow client: it is behind, and what it has missed is read
 * from the journal again once its socket drains. So memory is bounded by the sockets’ own buffers, however many there are.
 *
 *   live ── the socket is full ──▶ behind ── drained, nothing left in the journal ──▶ live
 *                                    └── not drained for 30 s ──▶ `event: end`, closed
 */
import type { ServerResponse } from 'node:http';
import type { Journal, JournalRecord } from '../saga/journal.ts';

export type Frame = { text: string; isStep: boolean } | null;

export interface StreamQuery {
  vm?: string | undefined;
  steps: boolean;
  /** Begin behind this record. */
  from: number;
  follow: boolean;
}

export interface StreamLimits {
  /** Records read from the journal at once. */
  page: number;
  beatMs: number;
  /** How long a client may read nothing. */
  patienceMs: number;
}

const LIMITS: StreamLimits = { page: 500, beatMs: 15_000, patienceMs: 30_000 };

export class EventFan {
  readonly #journal: Journal;
  readonly #frameOf: (record: JournalRecord) => Frame;
  readonly #limits: StreamLimits;
  readonly #streams = new Set<EventStream>();
  #stopListening: (() => void) | null = null;
  #beat: NodeJS.Timeout | null = null;

  constructor(journal: Journal, frameOf: (record: JournalRecord) => Frame, limits: StreamLimits = LIMITS) {
    this.#journal = journal;
    this.#frameOf = frameOf;
    this.#limits = limits;
  }

  serve(out: ServerResponse, query: StreamQuery): void {
    out.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    out.flushHeaders();
    const stream = new EventStream(out, query, this.#journal, this.#frameOf, this.#limits);
    this.#streams.add(stream);
    this.#listen();
    out.once('close', () => {
      stream.closed();
      this.#streams.delete(stream);
      if (this.#streams.size === 0) this.#rest();
    });
    stream.catchUp();
  }

  close(): void {
    for (const stream of this.#streams) stream.end('The service ends.');
    this.#rest();
  }

  /** One subscription and one frame for all of them. */
  #listen(): void {
    this.#stopListening ??= this.#journal.subscribe((record) => {
      const frame = this.#frameOf(record);
      for (const stream of this.#streams) stream.hear(record, frame);
    });
    this.#beat ??= setInterval(() => {
      for (const stream of this.#streams) stream.beat();
    }, this.#limits.beatMs);
  }

  #rest(): void {
    this.#stopListening?.();
    clearInterval(this.#beat ?? undefined);
    this.#stopListening = this.#beat = null;
  }
}

class EventStream {
  readonly #out: ServerResponse;
  readonly #query: StreamQuery;
  readonly #journal: Journal;
  readonly #frameOf: (record: JournalRecord) => Frame;
  readonly #limits: StreamLimits;
  #last: number;
  #isLive = false;
  #patience: NodeJS.Timeout | null = null;

  constructor(
    out: ServerResponse,
    query: StreamQuery,
    journal: Journal,
    frameOf: (record: JournalRecord) => Frame,
    limits: StreamLimits,
  ) {
    this.#out = out;
    this.#query = query;
    this.#journal = journal;
    this.#frameOf = frameOf;
    this.#limits = limits;
    this.#last = query.from;
  }

  hear(record: JournalRecord, frame: Frame): void {
    if (!this.#isLive) return;
    const { vm } = this.#query;
    if ((vm === undefined || record.vm === vm) && !this.#write(record.seq, frame)) this.#fallBehind();
  }

  /** From the journal until there is no more, or the socket is full. All in one turn: nothing can come in between. */
  catchUp(): void {
    const { page } = this.#limits;
    for (;;) {
      if (this.#out.writableEnded || this.#out.destroyed) return;
      const records = this.#journal.after(this.#last, { vm: this.#query.vm, limit: page });
      for (const record of records) {
        if (!this.#write(record.seq, this.#frameOf(record))) return this.#fallBehind();
      }
      if (records.length < page) break;
    }
    if (!this.#query.follow) return void this.#out.end();
    this.#isLive = true;
  }

  beat(): void {
    if (this.#isLive && !this.#out.write(':\n\n')) this.#fallBehind();
  }

  /** The reason is the last thing that the client reads; if it never does, the connection goes all the same. */
  end(reason: string): void {
    this.closed();
    if (this.#out.writableEnded) return;
    this.#out.end(`event: end\ndata: ${JSON.stringify({ reason, resume: this.#last })}\n\n`);
    setTimeout(() => this.#out.destroy(), this.#limits.patienceMs).unref();
  }

  closed(): void {
    this.#isLive = false;
    clearTimeout(this.#patience ?? undefined);
    this.#patience = null;
  }

  /** False when the socket is full. */
  #write(seq: number, frame: Frame): boolean {
    this.#last = seq;
    if (!frame || (frame.isStep && !this.#query.steps)) return true;
    return this.#out.write(frame.text);
  }

  #fallBehind(): void {
    this.#isLive = false;
    const { patienceMs } = this.#limits;
    this.#patience = setTimeout(() => {
      this.end(`Nothing was read for ${patienceMs / 1000} s. Resume by Last-Event-ID.`);
    }, patienceMs);
    this.#out.once('drain', () => {
      clearTimeout(this.#patience ?? undefined);
      this.catchUp();
    });
  }
}
