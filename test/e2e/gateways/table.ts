/**
 * `node test/e2e/gateways/table.ts`: docs/applications.md from what the runs of gateways.test.ts have left in build/gateways/, and, of applications that
 * were not run since, from outcomes.jsonl beside this file, which it brings up to date.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { COLUMNS } from './application.ts';
import { isFailure, type Outcome } from './run.ts';

const ROOT = join(import.meta.dirname, '../../..');
export const OUTCOMES = join(ROOT, 'build/gateways');
export const PAGE = join(ROOT, 'docs/applications.md');
/** What the page is made of, one outcome a line; test/unit/gateways holds one against the other. */
export const RECORD = join(import.meta.dirname, 'outcomes.jsonl');

const HEAD = `# Applications that have been parked
Made by \`node test/e2e/gateways/table.ts\` from the outcomes of \`scripts/test e2e/gateways\`, which runs each application as Debian packages it, under
systemd: a client connects and stays; park; TCP keep-alives, ping and the application's own probe must not wake the VM; a request on that connection wakes it and
is answered there; park again; a new client wakes it and is served; the old connection is used again. Then \`systemctl\` must show the same
main process, never restarted, and \`restart\`, \`stop\` and the journal must work.
Times are averages in milliseconds on the machine of the last run, which other work shared.
`;

export function renderTable(outcomes: readonly Outcome[]): string {
  const notes: string[] = [];
  const cell = (verdict: string | null = null): string => {
    if (verdict === null) return '–';
    if (verdict === 'ok') return '✓';
    notes.push(verdict.split('\n')[0] ?? '');
    return `${isFailure(verdict) ? '✗' : 'refused'} [${notes.length}]`;
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
  const heads = ['application', ...COLUMNS, 'parked in', 'awake in'];
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

export function readRecord(): Outcome[] {
  const lines = readFileSync(RECORD, 'utf8').split('\n').filter(Boolean);
  return lines.map((line) => JSON.parse(line) as Outcome);
}

/** Those of this machine's last runs over those that were recorded before. */
function merged(): Outcome[] {
  const before = existsSync(RECORD) ? readRecord() : [];
  const files = existsSync(OUTCOMES) ? readdirSync(OUTCOMES).filter((name) => name.endsWith('.json')) : [];
  const now = files.map((name) => JSON.parse(readFileSync(join(OUTCOMES, name), 'utf8')) as Outcome);
  const byName = new Map([...before, ...now].map((outcome) => [outcome.application, outcome]));
  return [...byName.values()].sort((a, b) => a.application.localeCompare(b.application));
}

if (process.argv[1] === import.meta.filename) {
  const outcomes = merged();
  writeFileSync(RECORD, outcomes.map((outcome) => `${JSON.stringify(outcome)}\n`).join(''));
  writeFileSync(PAGE, renderTable(outcomes));
}
