/**
 * `Idempotency-Key`: a request that was accepted is not carried out again, whatever became of the connection or of this
 * process. The key is written in the same transaction as the operation that it begins (`note`), so a crash leaves both or
 * neither; a refusal is not kept, because the next try may be accepted.
 */
import { createHash } from 'node:crypto';
import { SeamlessError } from '../../common/errors.ts';
import type { Journal } from '../saga/journal.ts';
import type { RequestNote } from '../vm/driver-deps.ts';

export interface Answer {
  already: boolean;
  operation: string | null;
}

interface KeyedRequest {
  key: string | undefined;
  vm: string;
  /** Differs when the request means something else. */
  what: string;
}

const KEPT_MS = 24 * 3600_000;

export function idempotency(journal: Journal, now: () => number = Date.now) {
  /** Two at once with one key are one. */
  const underWay = new Map<string, { what: string; answer: Promise<Answer> }>();

  return async function once(
    { key, vm, what }: KeyedRequest,
    act: (note?: RequestNote) => Promise<Answer>,
  ): Promise<Answer> {
    if (key === undefined) return act();
    const id = idOf(key);
    const request = `${what} ${vm}`;
    const running = underWay.get(id);
    if (running) return same(running.what, request, key) && running.answer;
    const known = journal.request(id);
    if (known && now() - known.atMs < KEPT_MS) {
      same(String(known.body.what), request, key);
      return { already: known.body.already === true, operation: known.saga };
    }
    const body = { key: id, what: request };
    const answer = act(body).then((given) => {
      // The driver has written it with the operation that it began.
      if (journal.request(id)?.saga !== given.operation || given.operation === null) {
        const saga = given.operation === null ? {} : { saga: given.operation };
        journal.append([{ vm, ...saga, event: 'request', body: { ...body, already: given.already } }]);
      }
      return given;
    });
    underWay.set(id, { what: request, answer });
    return answer.finally(() => underWay.delete(id));
  };
}

/** What a request with this key was answered with, when one was accepted. */
export function wasAnswered(journal: Journal, key: string): Answer | null {
  const known = journal.request(idOf(key));
  return known && { already: known.body.already === true, operation: known.saga };
}

function idOf(key: string): string {
  return createHash('sha256').update(key).digest('hex');
}

function same(before: string, now: string, key: string): true {
  if (before === now) return true;
  throw new SeamlessError(
    'IDEMPOTENCY_CONFLICT',
    `Expected another Idempotency-Key than “${key}” for “${now}”, got that of “${before}”`,
  );
}
