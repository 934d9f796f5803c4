/** The npm package as npm lays it: below node_modules, where Node strips no types, with the packages that it depends on beside it. */
import { readdirSync, symlinkSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { exec } from '../../../common/exec.ts';

const ROOT = join(import.meta.dirname, '../../..');

test('what `npm pack` makes has the command and the service, and neither tests nor the lab', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'seamless-npm-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const pack = ['npm', 'pack', '--silent', '--ignore-scripts', '--pack-destination', folder, ROOT] as const;
  const file = (await exec(pack, { timeoutMs: 60_000 })).stdout.trim();
  const modules = join(folder, 'node_modules');
  await mkdir(join(modules, 'seamless'), { recursive: true });
  await exec(['tar', '-xzf', join(folder, file), '-C', join(modules, 'seamless'), '--strip-components=1']);
  for (const name of readdirSync(join(ROOT, 'node_modules'))) {
    if (!name.startsWith('.')) symlinkSync(join(ROOT, 'node_modules', name), join(modules, name));
  }
  const there = readdirSync(join(modules, 'seamless'));
  expect(there).toEqual(
    expect.arrayContaining(['orchestrator', 'sink-agent', 'vm-agent', 'build', 'packaging']),
  );
  expect(there.filter((name) => ['test', 'lab', 'bench', 'demo'].includes(name))).toEqual([]);

  const launcher = join(modules, 'seamless/packaging/npm/seamless.js');
  for (const name of ['seamless', 'seamless-orchestrator']) symlinkSync(launcher, join(folder, name));
  const run = (name: string, ...args: string[]) =>
    exec([process.execPath, join(folder, name), ...args], { timeoutMs: 30_000 });
  expect((await run('seamless', '--version')).stdout.trim()).toBe('0.1.0');
  await expect(run('seamless-orchestrator', '--config', '/nowhere')).rejects.toMatchObject({
    details: { output: expect.stringContaining('CONFIG_INVALID') },
  });
}, 120_000);
