/** What `npm run check` says: formatting, lint, types. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { exec } from '../../common/exec.ts';

const ROOT = join(import.meta.dirname, '../..');
const tool = (name: string) => join(ROOT, 'node_modules/.bin', name);

test.each([
  ['biome', ['check', '.']],
  ['tsc', ['--noEmit']],
])('%s has no complaint', { timeout: 120_000 }, async (name, args) => {
  await expect(exec([tool(name), ...args], { cwd: ROOT, timeoutMs: 100_000 })).resolves.toBeDefined();
});
