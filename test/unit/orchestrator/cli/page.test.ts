/** docs/cli.md has a line for each command and for each exit code, and no other. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { expect, test } from 'vitest';
import { ERRORS } from '../../../../common/errors.ts';
import { program } from '../../../../orchestrator/cli/program.ts';

const PAGE = readFileSync(join(import.meta.dirname, '../../../../docs/cli.md'), 'utf8');

test('docs/cli.md has a line for each command', () => {
  const documented = [...PAGE.matchAll(/^\| `seamless ([\w ]+)` \|/gm)].map(([, name]) => name);
  expect(documented.toSorted()).toEqual(
    leaves(program())
      .map(({ path }) => path)
      .toSorted(),
  );
});

test('each command that answers with data has --json', () => {
  const without = leaves(program()).filter(
    ({ command }) => !command.options.some(({ long }) => long === '--json'),
  );
  expect(without.map(({ path }) => path)).toEqual(['completion']);
});

test('docs/cli.md has a line for each exit code, with the codes of errors that end so', () => {
  const rows = [...PAGE.matchAll(/^\| (\d+) \| (`.+`) \|$/gm)];
  const documented = rows.flatMap(([, exit, codes = '']) =>
    [...codes.matchAll(/`(\w+)`/g)].map(([, code]) => [code, Number(exit)]),
  );
  const known = Object.entries(ERRORS).map(([code, { exit }]) => [code, exit]);
  expect(documented.toSorted()).toEqual(known.toSorted());
});

function leaves(command: Command, path: readonly string[] = []): { path: string; command: Command }[] {
  const below = command.commands.flatMap((child) => leaves(child, [...path, child.name()]));
  return below.length > 0 ? below : [{ path: path.join(' '), command }];
}
