/**
 * One journal to many streams. Nothing is queued here for a slow client: it is behind, and what it has missed is read
 * from the journal again once its socket drains. So memory is bounded by the sockets’ own buffers, however many there are.
 *
 *   live ── the socket is full ──▶ behind ── drained, nothing left in the journal ──▶ live
 *                                    └── not drained for 30 s ──▶ `event: end`, closed
 *
 * What happens goes out in rounds, each stream getting all of a round in one write; between a few of them other work has its turn.
 * So an event for 500 streams makes no request wait for 500 writes, and many at once cost little more than one.
 */
import type { ServerResponse } from 'node:http';
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
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
  /** Records read from the journal at once, and told in one round. */
  page: number;
  beatMs: number;
  /** How long a client may read nothing. */
  patienceMs: number;
  /** From the beginning of one round to that of the next. */
  roundMs: number;
  /** Streams that are written to in one turn. */
  atOnce: number;
}

const LIMITS: StreamLimits = { page: 500, beatMs: 15_000, patienceMs: 30_000, roundMs: 25, atOnce: 50 };

interface Heard {
  record: JournalRecord;
  frame: Frame;
}

export class EventFan {
  readonly #journal: Journal;
  readonly #frameOf: (record: JournalRecord) => Frame;
  readonly #limits: StreamLimits;
  readonly #streams = new Set<EventStream>();
  #stopListening: (() => void) | null = null;
  #beat: NodeJS.Timeout | null = null;
  /** What the next round brings. */
  #heard: Heard[] = [];
  #isGoingRound = false;

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
      this.#heard.push({ record, frame: this.#frameOf(record) });
      if (!this.#isGoingRound) void this.#goRound();
    });
    this.#beat ??= setInterval(() => {
      for (const stream of this.#streams) stream.beat();
    }, this.#limits.beatMs);
  }

  /** Until there is nothing more to tell. */
  async #goRound(): Promise<void> {
    this.#isGoingRound = true;
    await nextTurn(); // what is written together is told together
    while (this.#heard.length > 0) {
      const pause = delay(this.#limits.roundMs);
      const round = new Round(this.#heard.splice(0, this.#limits.page));
      let told = 0;
      for (const stream of [...this.#streams]) {
        stream.hear(round);
        told += 1;
        if (told % this.#limits.atOnce === 0) await nextTurn();
      }
      await pause;
    }
    this.#isGoingRound = false;
  }

  #rest(): void {
    this.#heard = [];
    this.#stopListening?.();
    clearInterval(this.#beat ?? undefined);
    this.#stopListening = this.#beat = null;
  }
}

/** Records that go out together; those who want the same of them get the same bytes. */
class Round {
  readonly #heard: readonly Heard[];
  readonly #texts = new Map<string, Buffer>();

  constructor(heard: readonly Heard[]) {
    this.#heard = heard;
  }

  get last(): number {
    return this.#heard.at(-1)?.record.seq ?? 0;
  }

  /** What of it this stream wants and has not had; empty for nothing. */
  for({ vm, steps }: StreamQuery, last: number): Buffer {
    const from = this.#heard.findIndex(({ record }) => record.seq > last);
    const key = JSON.stringify([vm, steps, from]);
    const known = this.#texts.get(key);
    if (known) return known;
    const wanted = from === -1 ? [] : this.#heard.slice(from);
    const texts = wanted.map(({ record, frame }) =>
      frame && (vm === undefined || record.vm === vm) && (steps || !frame.isStep) ? frame.text : '',
    );
    const text = Buffer.from(texts.join(''));
    this.#texts.set(key, text);
    return text;
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

  hear(round: Round): void {
    if (!this.#isLive) return;
    const text = round.for(this.#query, this.#last);
    this.#last = Math.max(this.#last, round.last);
    if (text.length > 0 && !this.#out.write(text)) this.#fallBehind();
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
