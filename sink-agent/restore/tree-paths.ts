/**
 * Paths inside a sink's root tree, handled from outside of it. A symbolic link in the tree is never followed: an absolute one
 * would lead to the host's files. The tree has no running process meanwhile, so what is checked stays as it is.
 */
import type { Stats } from 'node:fs';
import { lstat, mkdir } from 'node:fs/promises';
import { posix } from 'node:path';
import { SeamlessError } from '../../common/errors.ts';

/** Where `path` of the VM lies in the tree at `root`. Throws `REQUEST_INVALID` for what is not a plain absolute path. */
export function inTree(root: string, path: string): string {
  if (path.startsWith('/') && path === posix.normalize(path) && !path.includes('\0')) return `${root}${path}`;
  throw new SeamlessError(
    'REQUEST_INVALID',
    `Expected an absolute, normal path in the manifest, got "${path}"`,
  );
}

/** What is at `path` in the tree, or `null`; throws when a parent is not a real directory. */
export async function statInTree(root: string, path: string): Promise<Stats | null> {
  for (const parent of parentsOf(path)) {
    const stats = await lstatOrNull(inTree(root, parent));
    if (stats === null) return null;
    expectDirectory(parent, stats);
  }
  return lstatOrNull(inTree(root, path));
}

/** Makes the missing parents of `path`, as root's, open to all. */
export async function makeParents(root: string, path: string): Promise<void> {
  for (const parent of parentsOf(path)) {
    const stats = await lstatOrNull(inTree(root, parent));
    if (stats === null) await mkdir(inTree(root, parent), { mode: 0o755 });
    else expectDirectory(parent, stats);
  }
}

/** `/a/b/c` → `/a`, `/a/b`. */
function parentsOf(path: string): string[] {
  const parts = path.split('/').slice(1, -1);
  return parts.map((_part, index) => `/${parts.slice(0, index + 1).join('/')}`);
}

function expectDirectory(path: string, stats: Stats): void {
  if (stats.isDirectory()) return;
  throw new SeamlessError(
    'RESTORE_FAILED',
    `Expected ${path} to be a directory in the sink as in the VM, got ${stats.isSymbolicLink() ? 'a symbolic link' : 'a file'}`,
  );
}

async function lstatOrNull(path: string): Promise<Stats | null> {
  try {
    return await lstat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
