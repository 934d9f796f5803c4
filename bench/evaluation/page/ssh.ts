import type { Section } from '../page.ts';
import type { Result } from '../results.ts';
import { SSH_GOAL_MS, type SshRow } from '../ssh.ts';
import { table, verdict } from './markdown.ts';

export function renderSsh({ rows }: Result<SshRow>): Section {
  const of = (ms: number) => ms.toFixed(1);
  const all = rows.find(({ what }) => what.startsWith('all'));
  const more = all ? all.p50Ms.ssh - all.p50Ms.local : Number.NaN;
  const details = table(
    ['', 'local', 'ssh', 'more', 'local, fastest', 'ssh, fastest', 'more', 'runs'],
    rows.map(({ what, runs, p50Ms, fastMs }) => [
      what,
      ...[p50Ms, fastMs].flatMap(({ local, ssh }) => [of(local), of(ssh), of(ssh - local)]),
      String(runs),
    ]),
  );
  const markdown = `At most ${SSH_GOAL_MS} ms more of what the hosts are asked, median: ${verdict(more <= SSH_GOAL_MS)} (${of(more)} ms).\n\n${details}`;
  return { markdown, plots: {} };
}
