/**
 * Builds one template: base tree (cached) → copy → agent layer → identity → boot files → disk, in a folder of its own that takes
 * the template's place at the end by a rename. A build that fails, or is killed, leaves the former template as it was.
 *
 * Who already uses the former template (a running VM, a sink) keeps its files open; the lab refuses nothing here: the
 * new identity tells such a VM from new sinks.
 */
import { mkdir, readdir, rename, statfs, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import { applyAgentLayer } from './agent-layer.ts';
import { ensureBaseTree, removeTree } from './base-tree.ts';
import { makeBootFiles } from './boot-files.ts';
import { treeIdentity } from './identity.ts';
import { withLock } from './lock.ts';
import {
  type Template,
  type TemplatePaths,
  templateDirectory,
  templatePaths,
  templatesDirectory,
} from './store.ts';

export interface BuildRequest {
  cache: string;
  name: string;
  /** Debian packages beyond the usual ones. */
  include: readonly string[];
  /** The repository that the agent's code is taken from. */
  source: string;
  report: (line: string) => void;
}

/** What a VM's disk appears to hold; the file is sparse. */
const DISK_BYTES = 4 * 1024 ** 3;
const NEEDED_BYTES = 3 * 1024 ** 3;

export async function buildTemplate(request: BuildRequest): Promise<Template> {
  const store = templatesDirectory(request.cache);
  await mkdir(store, { recursive: true });
  return withLock(
    join(store, '.lock'),
    () => request.report('another build is running; waiting for it'),
    async () => {
      await assertSpace(store);
      await removePartials(store);
      const final = templateDirectory(request.cache, request.name);
      const partial = join(store, `.partial-${request.name}`);
      try {
        const template = await buildInto(templatePaths(partial), request);
        await replace(final, partial);
        return template;
      } catch (error) {
        await removeTree(partial);
        throw error;
      }
    },
  );
}

async function buildInto(paths: TemplatePaths, request: BuildRequest): Promise<Template> {
  const { cache, name, source, report } = request;
  const packages = [...new Set(request.include)].sort();
  const base = await ensureBaseTree(cache, packages, report);
  report('laying the agent over it');
  await mkdir(paths.directory);
  await exec(['cp', '--archive', '--reflink=auto', base, paths.root], { timeoutMs: 300_000 });
  await applyAgentLayer(paths.root, source);
  report('computing its identity, making the disk');
  const id = await treeIdentity(paths.root);
  const kernel = await makeBootFiles(paths);
  const template: Template = { name, id, packages, builtAt: new Date().toISOString(), kernel };
  const text = `${JSON.stringify(template, null, 2)}\n`;
  await writeFile(join(paths.root, 'usr/lib/seamless/template.json'), text);
  await writeFile(paths.description, text);
  await makeDisk(paths);
  return template;
}

async function makeDisk(paths: TemplatePaths): Promise<void> {
  await writeFile(paths.disk, '');
  await truncate(paths.disk, DISK_BYTES);
  const layout = ['-E', 'lazy_itable_init=1,lazy_journal_init=1', '-J', 'size=16', '-m', '0'];
  await exec(['mkfs.ext4', '-q', '-F', ...layout, '-d', paths.root, paths.disk], { timeoutMs: 300_000 });
}

/** Puts `partial` where `final` is; the time without a template is that of two renames. */
async function replace(final: string, partial: string): Promise<void> {
  const former = join(partial, '..', `.partial-former-${process.pid}`);
  await rename(final, former).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  await rename(partial, final);
  await removeTree(former);
}

async function removePartials(store: string): Promise<void> {
  for (const name of await readdir(store))
    if (name.startsWith('.partial-')) await removeTree(join(store, name));
}

async function assertSpace(folder: string): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize < NEEDED_BYTES)
    throw new SeamlessError(
      'PREREQUISITE_MISSING',
      `expected 3 GB free for a template in ${folder}, got ${((bavail * bsize) / 1e9).toFixed(1)} GB; free some or set SEAMLESS_CACHE`,
    );
}
