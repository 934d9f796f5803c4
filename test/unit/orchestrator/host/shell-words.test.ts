import { expect, test } from 'vitest';
import { exec } from '../../../../common/exec.ts';
import { shellWords } from '../../../../orchestrator/host/ssh/shell-words.ts';

/** Every byte that an argument can hold, a few at a time, and some famous ones. */
const WORDS = [
  ...Array.from(
    { length: 127 },
    (_, code) => `a${String.fromCharCode(code + 1)}${String.fromCharCode(code + 1)}b`,
  ),
  ...[
    "'",
    "''",
    "'\\''",
    '',
    '-',
    '--',
    '-e',
    '~root',
    '{a,b}',
    '$(id)',
    '\n',
    '\r\n',
    '%s',
    'ü€🙂',
    '=x',
    'a=b',
  ],
];

test.each(['sh', 'bash'])('%s gives every word back as it was', async (shell) => {
  const { stdout } = await exec([shell, '-c', `printf '%s\\0' ${shellWords(WORDS)}`]);
  expect(stdout.split('\0').slice(0, -1)).toEqual(WORDS);
});

test('what no argument can hold is refused', () => {
  expect(() => shellWords(['a\0b'])).toThrow(expect.objectContaining({ code: 'REQUEST_INVALID' }));
});
