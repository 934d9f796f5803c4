import type { Section } from '../page.ts';
import type { Result } from '../results.ts';
import { SSH_GOAL_MS, type SshRow } from '../ssh.ts';
import { table, verdict } from './markdown.ts';

export function renderSsh({ rows }: Result<SshRow>): Section {
  const of = (ms: number) => ms.toFixed(1);
  // The resume runs beside the freezing of the sink, which takes longer either way.
  const waitedFor = rows.filter(({ what }) => /^(flip|release)/.test(what));
  const more = waitedFor.reduce((sum, { p50Ms }) => sum + p50Ms.ssh - p50Ms.local, 0);
  const details = table(
    ['', 'local', 'ssh', 'more', 'local, fastest', 'ssh, fastest', 'more', 'runs'],
    rows.map(({ what, runs, p50Ms, fastMs }) => [
      what,
      ...[p50Ms, fastMs].flatMap(({ local, ssh }) => [of(local), of(ssh), of(ssh - local)]),
      String(runs),
    ]),
  );
  const markdown = `At most ${SSH_GOAL_MS} ms more for what a wake waits for (flip and release, medians): ${verdict(more <= SSH_GOAL_MS)} (${of(more)} ms).\n\n${details}`;
  return { markdown, plots: {} };
}
