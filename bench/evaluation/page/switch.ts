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
    markdown: `Datagrams to a VM whose traffic is led to its sink and back all the while. \`ovs-ofctl\`: one rule after the other, as the paper does it; \`bundle\`: ours, atomic per bridge; \`bundle + buffer\`: ours with what a park and an unpark hold back, and what is added is counted from the release. Times and numbers are those of the kernel at the interfaces of the client, the VM and the sink; what is lost without any change is lost by the switches' userspace datapath, which shares the processors with all else.\n\n${details}\n\n![Added latency](switch.svg)`,
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
