/** Pages by cursor: the key of the last entry, opaque to the client. A page is stable while entries come and go. */
import { SeamlessError } from '../../common/errors.ts';

export function cursorOf(key: string | number): string {
  return Buffer.from(JSON.stringify(key)).toString('base64url');
}

/** @throws `REQUEST_INVALID` for one that is not ours */
export function keyOf<T extends 'string' | 'number'>(
  cursor: string,
  type: T,
): T extends 'string' ? string : number {
  try {
    const key: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
    if (typeof key === type) return key as T extends 'string' ? string : number;
  } catch {
    // Said below.
  }
  throw new SeamlessError('REQUEST_INVALID', `Expected \`next\` of a page as cursor, got “${cursor}”`);
}

/** Where the entries after `key` begin in a sorted list. */
export function firstAfter(sorted: readonly string[], key: string): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] as string) <= key) low = middle + 1;
    else high = middle;
  }
  return low;
}
