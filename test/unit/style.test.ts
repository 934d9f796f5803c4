/** What `npm run check` says: formatting, lint, types. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { exec } from '../../common/exec.ts';

const ROOT = join(import.meta.dirname, '../..');

test.each([
  ['@biomejs/cli-linux-x64/biome', ['check', '.']],
  ['.bin/tsc', ['--noEmit']],
])('%s has no complaint', { timeout: 120_000 }, async (name, args) => {
  await expect(
    exec([join(ROOT, 'node_modules', name), ...args], { cwd: ROOT, timeoutMs: 100_000 }),
  ).resolves.toBeDefined();
});
