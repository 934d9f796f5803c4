import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { INFRASTRUCTURE } from '../../../vm-agent/gateway/infrastructure.ts';
import { REMEDIES } from '../../../vm-agent/gateway/rules.ts';

const ROOT = join(import.meta.dirname, '../../..');
const page = readFileSync(join(ROOT, 'docs/parking-rules.md'), 'utf8');

test('docs/parking-rules.md has a line for each rule of the code, in its order, with reason and remedy', () => {
  const [, table = ''] = page.split('## Why a VM is refused');
  const lines = [...table.matchAll(/^\| (`.*`) \| (.+) \| (.+) \|$/gm)];
  const documented = lines.flatMap(([, names = '']) =>
    [...names.matchAll(/`([a-z0-9-]+)`/g)].map(([, name]) => name),
  );
  expect(documented).toEqual(Object.keys(REMEDIES));
});

test('each rule is applied somewhere', () => {
  const folder = join(ROOT, 'vm-agent/gateway');
  const code = readdirSync(folder)
    .filter((name) => name !== 'rules.ts')
    .map((name) => readFileSync(join(folder, name), 'utf8'))
    .join('\n')
    .replaceAll('rule: `${socket.kind}-socket`', "'raw-socket' 'packet-socket' 'ping-socket' 'sctp-socket'");
  expect(Object.keys(REMEDIES).filter((rule) => !code.includes(`'${rule}'`))).toEqual([]);
});

test('docs/parking-rules.md lists all that never belongs to the gateway set', () => {
  const [, section = ''] = page.split('## What never belongs to it');
  const listed = [...(section.split('\n## ')[0] ?? '').matchAll(/^- (.+)$/gm)].map(([, line]) => line);
  expect(listed).toEqual(INFRASTRUCTURE.map(({ what }) => what));
});
