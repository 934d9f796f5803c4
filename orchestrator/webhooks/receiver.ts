/**
 * One receiver of events: reads the journal from its own place in it, and posts one event after the other, signed, until it is taken.
 *
 *   reading ── an event ──▶ posting ── 2xx ──▶ place kept ──▶ reading ── nothing more ──▶ waiting for the journal
 *                             ▲  └── anything else ──▶ back-off ──┐
 *                             └───────────────────────────────────┘── for too long, or 410 ──▶ dead letter, place kept
 *
 * A dead letter that is asked for again goes before what follows in the journal.
 *
 * Nobody waits for it: the journal only says that there is something, and what is not yet sent is in the journal. An event comes at
 * least once, in order, with the same id at each attempt.
 */
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import { asSeamlessError, SeamlessError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { Journal, JournalRecord } from '../saga/journal.ts';
import { eventId, OUTBOUND, type OutboundEvent, outboundEvent } from './outbound-event.ts';
import { type Secret, sign } from './signature.ts';
import type { ReceiverConfig } from './webhook-config.ts';

export interface DeadLetter {
  id: string;
  event: OutboundEvent;
  /** Why it was not taken, at last. */
  reason: string;
  at: string;
}

export interface ReceiverStatus {
  name: string;
  url: string;
  /** The journal number up to which it has been told. */
  place: number;
  /** Why the last attempt failed; null when it did not. */
  failing: string | null;
  /** The newest, at most 100. */
  dead: DeadLetter[];
}

/** What a restart keeps. */
interface Kept {
  place: number;
  dead: DeadLetter[];
  again: DeadLetter[];
}

export interface ReceiverDeps {
  config: ReceiverConfig;
  secret: Secret;
  journal: Journal;
  log: Log;
  backoffMs?: { first: number; most: number };
  timeoutMs?: number;
}

const BACKOFF_MS = { first: 1000, most: 300_000 };
const TIMEOUT_MS = 10_000;
const GIVE_UP_MS = 24 * 3600_000;
const MOST_DEAD = 100;
const PAGE = 500;
const GONE = 410;

export class Receiver {
  readonly #deps: ReceiverDeps;
  readonly #ended = new AbortController();
  readonly #key: string;
  #place: number;
  #dead: DeadLetter[];
  /** Dead letters that are to be tried once more. */
  #again: DeadLetter[];
  #failing: string | null = null;
  #news = Promise.withResolvers<void>();
  #running: Promise<void> = Promise.resolve();
  #unsubscribe: () => void = () => {};

  constructor(deps: ReceiverDeps) {
    this.#deps = deps;
    // No VM has a name like that.
    this.#key = `receiver:${deps.config.name}`;
    const kept = deps.journal.kept(this.#key) as Partial<Kept> | null;
    this.#place = kept?.place ?? deps.journal.lastSeq();
    this.#dead = kept?.dead ?? [];
    this.#again = kept?.again ?? [];
    if (kept === null) this.#keep();
  }

  get status(): ReceiverStatus {
    const { name, url } = this.#deps.config;
    return { name, url, place: this.#place, failing: this.#failing, dead: this.#dead };
  }

  start(): void {
    this.#unsubscribe = this.#deps.journal.subscribe((record) => {
      if (this.#isFor(record)) this.#news.resolve();
    });
    this.#running = this.#run().catch((error) =>
      this.#deps.log.error('receiver.ended', { error: asSeamlessError(error) }),
    );
  }

  /**
   * Sends a dead letter once more, or all of them; each with its id of before.
   * @returns how many
   * @throws `REQUEST_INVALID` when none has that id
   */
  resend(id?: string): number {
    const wanted = this.#dead.filter((letter) => id === undefined || letter.id === id);
    if (id !== undefined && wanted.length === 0) {
      const { name } = this.#deps.config;
      throw new SeamlessError('REQUEST_INVALID', `Expected the id of a dead letter of ${name}, got “${id}”`);
    }
    this.#dead = this.#dead.filter((letter) => !wanted.includes(letter));
    this.#again.push(...wanted);
    this.#keep();
    this.#news.resolve();
    return wanted.length;
  }

  async close(): Promise<void> {
    this.#ended.abort();
    this.#news.resolve();
    this.#unsubscribe();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { journal } = this.#deps;
    while (!this.#ended.signal.aborted) {
      this.#news = Promise.withResolvers();
      for (let letter = this.#again[0]; letter; letter = this.#again[0]) {
        if (!(await this.#send(letter.id, letter.event))) return;
        this.#again.shift();
        this.#keep();
      }
      const records = journal.after(this.#place, { limit: PAGE });
      for (const record of records) {
        const event = this.#isFor(record) ? outboundEvent(record) : null;
        if (event && !(await this.#send(eventId(record), event))) return;
        this.#place = record.seq;
        if (event) this.#keep();
      }
      if (records.length < PAGE) await this.#news.promise;
      else await nextTurn();
    }
  }

  #isFor(record: JournalRecord): boolean {
    const event = outboundEvent(record);
    const { events = OUTBOUND } = this.#deps.config;
    return event !== null && events.some((kind) => event.type === `vm.${kind}`);
  }

  /** False when the service ends first: then it is sent again by the next one. */
  async #send(id: string, event: OutboundEvent): Promise<boolean> {
    const { config, log, backoffMs = BACKOFF_MS } = this.#deps;
    const giveUpAt = Date.now() + (config.giveUpAfterMs ?? GIVE_UP_MS);
    for (let waitMs = backoffMs.first; ; waitMs = Math.min(backoffMs.most, waitMs * 2)) {
      const refused = await this.#post(id, event);
      if (this.#ended.signal.aborted) return refused === null;
      this.#failing = refused?.reason ?? null;
      if (refused === null) return true;
      if (refused.status === GONE || Date.now() + waitMs > giveUpAt) {
        const { reason } = refused;
        this.#dead = [...this.#dead, { id, event, reason, at: new Date().toISOString() }].slice(-MOST_DEAD);
        log.error('receiver.deadLetter', { receiver: config.name, id, type: event.type, reason });
        return true;
      }
      log.warn('receiver.failed', { receiver: config.name, id, reason: refused.reason, againInMs: waitMs });
      await delay(waitMs * (0.75 + Math.random() / 2), undefined, {
        signal: this.#ended.signal,
        ref: false,
      }).catch(() => {});
      if (this.#ended.signal.aborted) return false;
    }
  }

  /** @returns null when it was taken */
  async #post(id: string, event: OutboundEvent): Promise<{ status: number | null; reason: string } | null> {
    const { config, secret, timeoutMs = TIMEOUT_MS } = this.#deps;
    const body = JSON.stringify(event);
    const timestamp = Math.floor(Date.now() / 1000);
    try {
      const reply = await fetch(config.url, {
        method: 'POST',
        redirect: 'manual', // What is signed for one place is not sent to another.
        signal: AbortSignal.any([AbortSignal.timeout(timeoutMs), this.#ended.signal]),
        headers: {
          'content-type': 'application/json',
          'webhook-id': id,
          'webhook-timestamp': String(timestamp),
          'webhook-signature': sign(secret, id, timestamp, body),
        },
        body,
      });
      void reply.body?.cancel().catch(() => {});
      return reply.ok ? null : { status: reply.status, reason: `it answered ${reply.status}` };
    } catch (error) {
      const { name, message, cause } = error as Error & { cause?: Error };
      const reason =
        name === 'TimeoutError' ? `no answer within ${timeoutMs} ms` : (cause?.message ?? message);
      return { status: null, reason };
    }
  }

  #keep(): void {
    const kept: Kept = { place: this.#place, dead: this.#dead, again: this.#again };
    this.#deps.journal.keep(new Map([[this.#key, kept]]));
  }
}

/** Throws `CONFIG_INVALID` when two have one name: they would share their place. */
export function expectNamesOnce(configs: readonly ReceiverConfig[]): void {
  const names = configs.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice)
    throw new SeamlessError(
      'CONFIG_INVALID',
      `Expected each of webhooks.receivers once, got “${twice}” twice`,
    );
}
