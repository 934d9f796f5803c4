import type { Section } from '../page.ts';
import type { Result } from '../results.ts';
import type { RuntimeRow } from '../runtimes.ts';
import { table } from './markdown.ts';

export function renderRuntimes({ rows }: Result<RuntimeRow>): Section {
  const of = (mebibytes: number) => mebibytes.toFixed(2);
  const markdown = table(
    [
      'Runtime',
      'a sink, MiB',
      'the VM’s processes',
      'PID 1, stand-ins',
      'filter',
      'Docker’s shim',
      'daemons',
      'once: daemons',
      'once: agent',
      'to make one, ms',
    ],
    rows.map((row) => [
      row.runtime,
      `**${of(row.eachMiB)}**`,
      of(row.processesMiB),
      of(row.containerMiB),
      of(row.filterMiB),
      of(row.shimMiB),
      of(row.daemonsMiB),
      of(row.onceMiB),
      of(row.agentMiB),
      String(row.makeMs),
    ]),
  );
  return { markdown, plots: {} };
}
