/** `seamless doctor`, and what it shares with `seamless host check` */
import type { Command } from 'commander';
import { ERRORS } from '../../common/errors.ts';
import type { Finding } from '../doctor/finding.ts';
import type { ApiClient } from './client.ts';
import { addCommand, type Options, print, run } from './session.ts';

const MARKS = { ok: '✓', warning: '!', missing: '✗', unknown: '?' } as const;

export function addDoctorCommand(cli: Command): void {
  addCommand(cli, 'doctor', 'look at every prerequisite on every host, and say how to mend what is missing')
    .option('--all', 'what is in order, too')
    .action((_options, self: Command) =>
      run(self, (client, options) => check(client, '/v1/doctor', options)),
    );
}

/** Exits with 3 when something is missing. */
export async function check(
  client: ApiClient,
  path: string,
  options: Options & { all?: boolean },
): Promise<void> {
  const { findings } = await client.get<{ findings: Finding[] }>(path);
  print(options.json ? JSON.stringify({ findings }) : findingsText(findings, options.all === true));
  if (findings.some(({ status }) => status === 'missing'))
    process.exitCode = ERRORS.PREREQUISITE_MISSING.exit;
}

function findingsText(findings: readonly Finding[], all: boolean): string {
  const lines = findings
    .filter(({ status }) => all || status !== 'ok')
    .flatMap(({ subject, check: what, status, found, mend }) => [
      `${MARKS[status]} ${subject}: ${what}: ${found}`,
      ...(mend === null ? [] : [`    → ${mend}`]),
    ]);
  const fine = findings.filter(({ status }) => status === 'ok').length;
  return [...lines, `${fine} of ${findings.length} checks in order`].join('\n');
}
