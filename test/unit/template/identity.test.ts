import { chmod, mkdir, mkdtemp, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { isPerMachine, treeIdentity } from '../../../template/identity.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'identity-'));
});
afterEach(() => rm(folder, { recursive: true }));

/** A small tree with a file, a folder and a link; `files` are written in the order given. */
async function tree(name: string, files: readonly string[] = ['b', 'a']): Promise<string> {
  const root = join(folder, name);
  await mkdir(join(root, 'etc'), { recursive: true });
  for (const file of files) await writeFile(join(root, 'etc', file), `content of ${file}`);
  await symlink('a', join(root, 'etc/link'));
  return root;
}

test('two trees of the same content are equal, whenever and in whichever order they were made', async () => {
  const one = await tree('one', ['a', 'b']);
  const other = await tree('other', ['b', 'a']);
  await utimes(join(other, 'etc/a'), 1, 1);
  expect(await treeIdentity(one)).toBe(await treeIdentity(other));
});

test.each([
  ['a changed byte', (root: string) => writeFile(join(root, 'etc/a'), 'Content of a')],
  ['a changed mode', (root: string) => chmod(join(root, 'etc/a'), 0o600)],
  ['a file more', (root: string) => writeFile(join(root, 'etc/c'), '')],
  ['a folder more', (root: string) => mkdir(join(root, 'var'))],
  [
    'another link target',
    async (root: string) => {
      await rm(join(root, 'etc/link'));
      await symlink('b', join(root, 'etc/link'));
    },
  ],
  [
    'a file where a link was',
    async (root: string) => {
      await rm(join(root, 'etc/link'));
      await writeFile(join(root, 'etc/link'), 'a');
    },
  ],
])('%s makes another identity', async (_what, change) => {
  const root = await tree('one');
  const before = await treeIdentity(root);
  await change(root);
  expect(await treeIdentity(root)).not.toBe(before);
});

test('what each machine has its own of does not count', async () => {
  const root = await tree('one');
  const before = await treeIdentity(root);
  await writeFile(join(root, 'etc/machine-id'), 'f00');
  await writeFile(join(root, 'etc/hostname'), 'vm1');
  expect(await treeIdentity(root)).toBe(before);
});

test('a link to a folder outside the tree is not followed', async () => {
  const root = await tree('one');
  const outside = join(folder, 'outside');
  await mkdir(outside);
  await symlink(outside, join(root, 'lock'));
  const before = await treeIdentity(root);
  await writeFile(join(outside, 'file'), 'of the machine that builds');
  expect(await treeIdentity(root)).toBe(before);
});

test('only the listed files are per machine', () => {
  for (const path of [
    'etc/machine-id',
    'etc/ssh/ssh_host_rsa_key',
    'root/.ssh',
    'root/.ssh/x',
    'var/log/a',
    'proc/1',
  ])
    expect(isPerMachine(path), path).toBe(true);
  for (const path of [
    'etc/ssh/sshd_config',
    'etc/hostname.d',
    'root/.sshrc',
    'usr/bin/log',
    'var/lib/dpkg/status',
    'proc',
  ])
    expect(isPerMachine(path), path).toBe(false);
});
