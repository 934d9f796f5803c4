import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ERRORS } from '../../../common/errors.ts';

test('docs/errors.md has a line for each code, with its HTTP status and exit code', () => {
  const page = readFileSync(join(import.meta.dirname, '../../../docs/errors.md'), 'utf8');
  const lines = [...page.matchAll(/^\| `(\w+)` \| (\d+) \| (\d+) \| .+ \|$/gm)];
  const documented = lines.map(([, code = '', status, exit]) => [
    code,
    { status: Number(status), exit: Number(exit) },
  ]);
  const known = Object.entries(ERRORS).map(([code, { status, exit }]) => [code, { status, exit }]);
  expect(documented).toEqual(known);
});
