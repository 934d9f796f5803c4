/**
 * Signatures as in Standard Webhooks: `v1,` and the HMAC-SHA256 of `ID.TIMESTAMP.BODY`, in base64. A header may hold several,
 * while a secret is being replaced. Pure.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { SeamlessError } from '../../common/errors.ts';

/** A clock may be wrong by so much, and a replay is remembered for longer than that. */
export const REPLAY_WINDOW_S = 300;
const LEAST_SECRET_BYTES = 24;
const ID = /^[\x21-\x7e]{1,256}$/;

export interface Secret {
  name: string;
  key: Buffer;
}

export interface SignedHeaders {
  id: string | undefined;
  timestamp: string | undefined;
  signature: string | undefined;
}

/** @param text `whsec_` and base64; 24 bytes at least. Throws `CONFIG_INVALID`. */
export function parseSecret(name: string, text: string): Secret {
  const encoded = text.replace(/^whsec_/, '');
  const key = Buffer.from(encoded, 'base64');
  if (key.length >= LEAST_SECRET_BYTES && /^[A-Za-z0-9+/]+=*$/.test(encoded)) return { name, key };
  throw new SeamlessError(
    'CONFIG_INVALID',
    `Expected the secret of “${name}” as whsec_ and base64 of at least ${LEAST_SECRET_BYTES} bytes; make one with \`echo whsec_$(openssl rand -base64 32)\``,
  );
}

export function sign({ key }: Secret, id: string, timestamp: number, body: string | Buffer): string {
  return `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64')}`;
}

/** Whose signature it is. Every secret is tried against every signature, so that the time taken tells nothing. */
export function verify(
  secrets: readonly Secret[],
  { id, timestamp, signature }: SignedHeaders,
  body: Buffer,
  nowMs: number,
): { id: string; name: string } {
  if (!id || !timestamp || !signature) {
    throw denied('the headers webhook-id, webhook-timestamp and webhook-signature', 'only some of them');
  }
  if (!ID.test(id)) throw denied('a webhook-id of at most 256 printable characters', 'another');
  const seconds = /^\d{1,12}$/.test(timestamp) ? Number(timestamp) : Number.NaN;
  if (!(Math.abs(nowMs / 1000 - seconds) <= REPLAY_WINDOW_S)) {
    throw denied(
      `a webhook-timestamp within ${REPLAY_WINDOW_S} s of now`,
      'one that is not; check both clocks',
    );
  }
  const given = signature
    .split(' ')
    .slice(0, 10)
    .map((text) => Buffer.from(text));
  let name: string | null = null;
  for (const secret of secrets) {
    const expected = Buffer.from(sign(secret, id, seconds, body));
    for (const one of given) {
      if (one.length === expected.length && timingSafeEqual(one, expected)) name = secret.name;
    }
  }
  if (name === null)
    throw denied('a webhook-signature by a configured secret over exactly this body', 'another');
  return { id, name };
}

function denied(expected: string, got: string): SeamlessError {
  return new SeamlessError('UNAUTHENTICATED', `Expected ${expected}, got ${got}`);
}
