/**
 * Bearer tokens, in one file of the state folder (mode 0600). Of each only a hash is kept: a token is 32 random bytes, so a
 * plain SHA-256 can’t be tried through, and a check costs no time that an attacker could make the service spend.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import Type from 'typebox';
import Value from 'typebox/value';
import { SeamlessError } from '../../../common/errors.ts';
import { SCOPES, type Scope } from '../access.ts';
import { nullable, Time } from '../schema/common.ts';

const facts = {
  id: Type.String(),
  name: Type.String(),
  scope: Type.Unsafe<Scope>({ type: 'string', enum: [...SCOPES] }),
  createdAt: Time,
  expiresAt: nullable(Time),
};
export const TokenSchema = Type.Object(facts, { $id: 'Token', description: 'A token, without its secret.' });
const Stored = Type.Object({ ...facts, hash: Type.String({ pattern: '^[0-9a-f]{64}$' }) });
const TokenFile = Type.Object({ version: Type.Literal(1), tokens: Type.Array(Stored) });

export type Token = Type.Static<typeof TokenSchema>;
type StoredToken = Type.Static<typeof Stored>;

export interface NewToken {
  name: string;
  scope: Scope;
  /** For ever unless told. */
  days?: number | undefined;
}

const PREFIX = 'seamless';
const DAY_MS = 24 * 3600_000;

export class TokenStore {
  readonly #path: string;
  readonly #now: () => number;
  #tokens: readonly StoredToken[];

  /** @throws `CONFIG_INVALID` when the file is damaged: then nobody is let in rather than anybody */
  constructor(path: string, now: () => number = Date.now) {
    this.#path = path;
    this.#now = now;
    this.#tokens = existsSync(path) ? read(path) : [];
  }

  /** `secret` is shown this once. */
  create({ name, scope, days }: NewToken): { token: Token; secret: string } {
    if (this.#tokens.some((token) => token.name === name)) {
      throw new SeamlessError(
        'REQUEST_INVALID',
        `Expected a name that no token has, got “${name}”; revoke that one first`,
      );
    }
    const id = randomBytes(6).toString('hex');
    const secret = `${PREFIX}_${id}_${randomBytes(32).toString('base64url')}`;
    const now = this.#now();
    const token: Token = {
      ...{ id, name, scope, createdAt: new Date(now).toISOString() },
      expiresAt: days === undefined ? null : new Date(now + days * DAY_MS).toISOString(),
    };
    this.#write([...this.#tokens, { ...token, hash: hashOf(secret).toString('hex') }]);
    return { token, secret };
  }

  list(): Token[] {
    return this.#tokens.map(({ hash: _hash, ...token }) => token);
  }

  /** By id or name; @throws `TOKEN_UNKNOWN` */
  revoke(which: string): Token {
    const found = this.#tokens.find(({ id, name }) => id === which || name === which);
    if (!found)
      throw new SeamlessError('TOKEN_UNKNOWN', `Expected the id or name of a token, got “${which}”`);
    this.#write(this.#tokens.filter((token) => token !== found));
    const { hash: _hash, ...token } = found;
    return token;
  }

  /** The token of this secret, or null. Takes as long for a wrong secret as for an id that nobody has. */
  check(secret: string): Token | null {
    const hash = hashOf(secret);
    const id = secret.split('_')[1];
    const found = this.#tokens.find((token) => token.id === id);
    const isRight = timingSafeEqual(hash, found ? Buffer.from(found.hash, 'hex') : NOBODY);
    if (!found || !isRight) return null;
    if (found.expiresAt !== null && Date.parse(found.expiresAt) <= this.#now()) return null;
    return found;
  }

  /** All or nothing, on the disk before it holds. */
  #write(tokens: readonly StoredToken[]): void {
    const next = `${this.#path}.next`;
    const file = openSync(next, 'w', 0o600);
    try {
      writeSync(file, `${JSON.stringify({ version: 1, tokens }, null, 1)}\n`);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(next, this.#path);
    this.#tokens = tokens;
  }
}

const NOBODY = Buffer.alloc(32);

function hashOf(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}

function read(path: string): StoredToken[] {
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (Value.Check(TokenFile, value)) return value.tokens;
  } catch {
    // Said below.
  }
  throw new SeamlessError(
    'CONFIG_INVALID',
    `Expected a file of tokens at ${path}, got something else; restore or delete it`,
  );
}
