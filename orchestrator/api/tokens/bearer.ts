/** Who calls over TCP: the holder of a bearer token. */
import { SeamlessError } from '../../../common/errors.ts';
import type { Identify } from '../access.ts';
import { Failures } from './failures.ts';
import type { TokenStore } from './store.ts';

export function bearerCaller(tokens: TokenStore, failures: Failures = new Failures()): Identify {
  return ({ ip, headers }) => {
    failures.admit(ip);
    const [, secret] = /^Bearer +([\w.~+/-]+=*) *$/i.exec(headers.authorization ?? '') ?? [];
    if (secret === undefined) {
      throw new SeamlessError('UNAUTHENTICATED', 'Expected a header “Authorization: Bearer TOKEN”');
    }
    const token = tokens.check(secret);
    if (!token) {
      failures.failed(ip);
      throw new SeamlessError(
        'UNAUTHENTICATED',
        'Expected a token that is known, not expired and not revoked',
      );
    }
    return { name: token.id, scope: token.scope };
  };
}
