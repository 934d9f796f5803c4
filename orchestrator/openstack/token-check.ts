/**
 * Whose token is it? Asked of Keystone with a service identity, because a plain member may not ask about others' tokens.
 * What Keystone said is kept for a minute at most, and never past the token's end: so long a revoked token may still pass.
 */
import { createHash } from 'node:crypto';
import { SeamlessError } from '../../common/errors.ts';
import type { KeystoneSession } from './keystone.ts';
import { statusOf } from './request.ts';

/** Who a token speaks for. With a trust it is the one who trusts, not the service that acts. */
export interface TokenOwner {
  userId: string;
  userName: string;
  projectId: string | null;
  roles: string[];
  /** The service that uses a trust: aodh, for an alarm with `trust+https`. */
  trusteeUserId: string | null;
  expiresMs: number;
}

export interface TokenCheck {
  /** @throws SeamlessError UNAUTHENTICATED when Keystone does not know the token */
  ownerOf(token: string): Promise<TokenOwner>;
}

const KEEP_MS = 60_000;
const KEEP_MOST = 1000;

export function tokenCheck(session: KeystoneSession, now: () => number = Date.now): TokenCheck {
  const kept = new Map<string, { owner: TokenOwner; untilMs: number }>();
  const asking = new Map<string, Promise<TokenOwner>>();

  async function ask(token: string, key: string): Promise<TokenOwner> {
    const owner = await validate(session, token);
    if (owner.expiresMs <= now()) throw unknownToken();
    if (kept.size >= KEEP_MOST) kept.delete(kept.keys().next().value as string);
    kept.set(key, { owner, untilMs: Math.min(owner.expiresMs, now() + KEEP_MS) });
    return owner;
  }

  return {
    async ownerOf(token) {
      // Kept by its hash: what is in memory can't be used as a token.
      const key = createHash('sha256').update(token).digest('base64');
      const found = kept.get(key);
      if (found && found.untilMs > now()) return found.owner;
      kept.delete(key);
      const pending = asking.get(key) ?? ask(token, key).finally(() => asking.delete(key));
      asking.set(key, pending);
      return pending;
    },
  };
}

async function validate(session: KeystoneSession, subject: string): Promise<TokenOwner> {
  // Anything else would be a header of its own, or none.
  if (!/^[\x21-\x7e]{1,8192}$/.test(subject)) throw unknownToken();
  const url = `${session.authUrl}/auth/tokens?nocatalog`;
  const { body } = await session
    .request({ method: 'GET', url, headers: { 'x-subject-token': subject } })
    .catch((error) => {
      const status = statusOf(error);
      if (status === 404) throw unknownToken();
      if (status !== 403) throw error;
      const reason =
        'Expected the service identity to be allowed to check tokens, got 403: give its user the role `service`';
      throw new SeamlessError('CLOUD_REFUSED', reason, { cause: error, details: { status } });
    });
  const { token } = body as { token: KeystoneToken };
  return {
    userId: token.user.id,
    userName: token.user.name,
    projectId: token.project?.id ?? null,
    roles: (token.roles ?? []).map(({ name }) => name),
    trusteeUserId: token['OS-TRUST:trust']?.trustee_user.id ?? null,
    expiresMs: Date.parse(token.expires_at),
  };
}

interface KeystoneToken {
  user: { id: string; name: string };
  project?: { id: string };
  roles?: { name: string }[];
  expires_at: string;
  'OS-TRUST:trust'?: { trustee_user: { id: string } };
}

function unknownToken(): SeamlessError {
  return new SeamlessError(
    'UNAUTHENTICATED',
    'Expected a token that Keystone knows, got one that is unknown, revoked or expired',
  );
}
