import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { Outcome } from '../../e2e/gateways/run.ts';
import { PAGE, readRecord, renderTable } from '../../e2e/gateways/table.ts';

const OUTCOME: Outcome = {
  application: 'a server',
  columns: {
    park: 'ok',
    'keep-alive': null,
    probe: 'ok',
    idle: null,
    'request on an old connection': 'woke, and said nothing\nin 3 s',
    'new connection': null,
    'second cycle': null,
    systemctl: null,
  },
  faults: [],
  parkMs: [700, 801],
  wakeMs: [],
  triggers: [],
  isTidy: true,
};

test('what was not reached, what held and what did not are told apart, with the reason below', () => {
  const lines = renderTable([OUTCOME]).split('\n');
  expect(lines).toContain('| a server | ✓ | – | ✓ | – | ✗ [1] | – | – | – | 751 | – |');
  expect(lines).toContain('[1] woke, and said nothing');
});

test('a refusal that must be is no failure, and has its reason', () => {
  const refused = { ...OUTCOME, columns: { ...OUTCOME.columns, park: 'refused: x: SysV (system-v-memory)' } };
  expect(renderTable([refused])).toContain('| a server | refused [1] |');
});

test('docs/applications.md is what the recorded outcomes say', () => {
  expect(readFileSync(PAGE, 'utf8')).toBe(renderTable(readRecord()));
});
