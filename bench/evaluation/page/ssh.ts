import type { Section } from '../page.ts';
import type { Result } from '../results.ts';
import { SSH_GOAL_MS, type SshRow } from '../ssh.ts';
import { table, verdict } from './markdown.ts';

export function renderSsh({ rows }: Result<SshRow>): Section {
  const of = (ms: number) => ms.toFixed(1);
  const wake = rows.find(({ what }) => what.startsWith('a whole wake'));
  const more = wake ? wake.p50Ms.ssh - wake.p50Ms.local : Number.NaN;
  const details = table(
    ['', 'local', 'ssh', 'more', 'local, fastest', 'ssh, fastest', 'more', 'runs'],
    rows.map(({ what, runs, p50Ms, fastMs }) => [
      what,
      ...[p50Ms, fastMs].flatMap(({ local, ssh }) => [of(local), of(ssh), of(ssh - local)]),
      String(runs),
    ]),
  );
  const markdown = `At most ${SSH_GOAL_MS} ms more for a whole wake (medians): ${verdict(more <= SSH_GOAL_MS)} (${of(more)} ms). What the hosts are asked is measured by itself as well, since a wake varies by more than that.\n\n${details}`;
  return { markdown, plots: {} };
}
