import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { applyAgentLayer, dependencyTree } from '../../../template/agent-layer.ts';
import { baseKey, ensureBaseTree } from '../../../template/base-tree.ts';
import { templateDirectory } from '../../../template/store.ts';

test('a package comes with all that it needs, each once', async () => {
  const source = await mkdtemp(join(tmpdir(), 'layer-'));
  onTestFinished(() => rm(source, { recursive: true }));
  const packages = {
    top: ['left', '@scope/right'],
    left: ['leaf'],
    '@scope/right': ['leaf', 'top'],
    leaf: [],
    other: [],
  };
  for (const [name, needs] of Object.entries(packages)) {
    const folder = join(source, 'node_modules', name);
    await mkdir(folder, { recursive: true });
    const dependencies = Object.fromEntries(needs.map((need) => [need, '*']));
    await writeFile(join(folder, 'package.json'), JSON.stringify({ dependencies }));
  }
  expect(await dependencyTree(source, ['top'])).toEqual(['@scope/right', 'leaf', 'left', 'top']);
});

test('the layer is refused outside a tree that is being built', async () => {
  for (const root of ['/', '/usr', '/var/lib', 'relative/path/to/root', '/var/cache/seamless/../../..'])
    await expect(applyAgentLayer(root, '/nowhere'), root).rejects.toThrow(
      /expected the absolute path of a tree/,
    );
});

test('the base is cached by what is in it, not by the order it was asked in', () => {
  expect(baseKey(['a', 'b'])).toBe(baseKey(['a', 'b']));
  expect(baseKey(['a', 'b'])).not.toBe(baseKey(['a', 'c']));
});

test('what is no package name never reaches a command', async () => {
  await expect(ensureBaseTree('/nowhere', ['apache2', '--variant=x'], () => {})).rejects.toThrow(
    /--variant=x/,
  );
});

test('a template’s name can’t lead out of the store', () => {
  expect(templateDirectory('/cache', 'web-1')).toBe('/cache/templates/web-1');
  for (const name of ['..', 'a/b', '', '.partial-x', 'A'])
    expect(() => templateDirectory('/cache', name)).toThrow(/template name/);
});
