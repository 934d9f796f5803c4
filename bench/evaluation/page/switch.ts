import type { Section } from '../page.ts';
import type { Result } from '../results.ts';
import type { SwitchRow } from '../switch.ts';
import { table } from './markdown.ts';

export function renderSwitch({ rows }: Result<SwitchRow>): Section {
  const details = table(
    ['Method', 'packets/s', 'flips', 'sent', 'lost', 'duplicated', 'reordered', 'added latency p99, ms'],
    rows.map((row) => [
      row.method,
      ...[
        row.packetsPerSecond,
        row.flips,
        row.sent,
        row.lost,
        row.duplicated,
        row.reordered,
        row.addedMsP99,
      ].map(String),
    ]),
  );
  return {
    markdown: `Datagrams to a VM whose traffic is led to its sink and back all the while. \`ovs-ofctl\`: one rule after the other, as the paper does it; \`bundle\`: ours, atomic per bridge; \`bundle + buffer\`: ours with what a park and an unpark hold back, and what is added is counted from the release. At 10,000 packets a second a sender and receivers in a scripting language on two cores lose some by themselves: \`no change\` says how many.\n\n${details}\n\n![Added latency](switch.svg)`,
    plots: {
      switch: {
        title: 'Added latency (p99) while traffic is led to and fro',
        kind: 'bar',
        x: 'packets/s',
        y: 'ms',
        series: [...new Set(rows.map(({ method }) => method))]
          .filter((method) => method !== 'no change')
          .map((name) => ({
            name,
            points: rows
              .filter(({ method }) => method === name)
              .map((row) => [row.packetsPerSecond, row.addedMsP99] as const),
          })),
      },
    },
  };
}
