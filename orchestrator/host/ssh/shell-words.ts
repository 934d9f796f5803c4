/** An argv as one line for a POSIX shell: sshd hands every command to the account's shell. */
import { SeamlessError } from '../../../common/errors.ts';

export function shellWords(argv: readonly string[]): string {
  return argv.map(shellWord).join(' ');
}

function shellWord(word: string): string {
  if (word.includes('\0')) throw new SeamlessError('REQUEST_INVALID', 'Expected arguments without NUL bytes');
  if (/^[\w@%+:,./-]+$/.test(word)) return word;
  // Nothing is special between single quotes, but the single quote itself.
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
