/** Builds the agent layer over the cached base twice; only the very first run on a machine fetches packages. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, onTestFinished, test } from 'vitest';
import { removeTree } from '../../../template/base-tree.ts';
import { buildTemplate } from '../../../template/build.ts';
import { treeIdentity } from '../../../template/identity.ts';
import { cacheDirectory, templateDirectory, templatePaths } from '../../../template/store.ts';

const NAME = 'test-identity';
const cache = cacheDirectory(process.env);
const paths = templatePaths(templateDirectory(cache, NAME));

afterAll(() => removeTree(paths.directory));

const build = () =>
  buildTemplate({
    cache,
    name: NAME,
    include: [],
    source: join(import.meta.dirname, '../../..'),
    report: () => {},
  });

test('a template built twice is the same one, and its tree says who it is', {
  timeout: 600_000,
}, async () => {
  const first = await build();
  await rm(paths.description); // else the second would be none
  const second = await build();
  expect(second.id).toBe(first.id);
  expect(second.id).toMatch(/^[0-9a-f]{64}$/);
  expect(JSON.parse(await readFile(join(paths.root, 'usr/lib/seamless/template.json'), 'utf8'))).toEqual(
    second,
  );
  expect(await treeIdentity(paths.root)).toBe(second.id);
});

test('what is up to date is not built again', async () => {
  const before = await readFile(paths.description, 'utf8');
  await build();
  expect(await readFile(paths.description, 'utf8')).toBe(before);
});

test('a template that a sink stands on is not replaced', async () => {
  const holder = spawn(
    'unshare',
    [
      '--mount',
      'sh',
      '-c',
      'mount -t overlay -o "lowerdir=$0" sink /mnt && echo mounted && exec cat',
      `${paths.root}:/srv`,
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  onTestFinished(() => {
    holder.stdin.end();
  });
  await once(holder.stdout, 'data');
  await rm(paths.description);
  await expect(build()).rejects.toThrow(/a sink or a native VM stands on/);
});
