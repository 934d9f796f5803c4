/** `node test/e2e/gateways/table.ts`: docs/applications.md from the outcomes of the last runs in build/gateways/. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { COLUMNS } from './application.ts';
import type { Outcome } from './run.ts';

const ROOT = join(import.meta.dirname, '../../..');
export const OUTCOMES = join(ROOT, 'build/gateways');
const PAGE = join(ROOT, 'docs/applications.md');

const HEAD = `# Applications that have been parked
Made by \`node test/e2e/gateways/table.ts\` from the outcomes of \`scripts/test e2e/gateways\`, which runs each application as Debian packages it, under
systemd: a client connects and stays; park; TCP keep-alives, ping and the application's own probe must not wake the VM; a request on that connection wakes it and
is answered there; park again; a new client wakes it and is served; the old connection is used again. Then \`systemctl\` must show the same
main process, never restarted, and \`restart\`, \`stop\` and the journal must work.
`;

export function renderTable(outcomes: readonly Outcome[]): string {
  const notes: string[] = [];
  const cell = (verdict: string | null): string => {
    if (verdict === null) return '–';
    if (verdict === 'ok') return '✓';
    notes.push(verdict.split('\n')[0] ?? '');
    return `✗ [${notes.length}]`;
  };
  const row = (words: readonly string[]) => `| ${words.join(' | ')} |`;
  const rows = [...outcomes]
    .sort((a, b) => a.application.localeCompare(b.application))
    .map(({ application, columns, changed, parkMs, wakeMs }) =>
      row([
        changed ? `${application} *` : application,
        ...COLUMNS.map((column) => cell(columns[column])),
        average(parkMs),
        average(wakeMs),
      ]),
    );
  const heads = ['application', ...COLUMNS, 'park ms', 'wake ms'];
  const changes = outcomes
    .filter(({ changed }) => changed)
    .map(({ application, changed }) => `\\* ${application}: ${changed}`);
  return [
    HEAD,
    row(heads),
    row(heads.map(() => '---')),
    ...rows,
    '',
    ...notes.map((note, index) => `[${index + 1}] ${note}\n`),
    ...changes.map((change) => `${change}\n`),
    '–: there is nothing to try (no connection to keep), or it was not reached.',
    '',
  ].join('\n');
}

function average(values: readonly number[]): string {
  if (values.length === 0) return '–';
  return `${Math.round(values.reduce((sum, value) => sum + value, 0) / values.length)}`;
}

if (process.argv[1] === import.meta.filename) {
  const files = readdirSync(OUTCOMES).filter((name) => name.endsWith('.json'));
  const outcomes = files.map((name) => JSON.parse(readFileSync(join(OUTCOMES, name), 'utf8')) as Outcome);
  writeFileSync(PAGE, renderTable(outcomes));
}
