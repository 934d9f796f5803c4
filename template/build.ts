/**
 * Builds one template: base tree (cached) → copy → agent layer → identity → boot files → disk, in a folder of its own that takes
 * the template's place at the end by a rename. A build that fails, or is killed, leaves the former template as it was.
 *
 * Nothing is built when the inputs are those of the template that is there. A running VM keeps the former disk open; a sink's root, however,
 * is a mount over the former tree, so a template that sinks stand on is not replaced.
 */
import { mkdir, readdir, readFile, rename, statfs, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import { applyAgentLayer } from './agent-layer.ts';
import { ensureBaseTree, removeTree } from './base-tree.ts';
import { makeBootFiles } from './boot-files.ts';
import { disableUnits } from './boot-trim.ts';
import { treeIdentity } from './identity.ts';
import { templateInputs } from './inputs.ts';
import { withLock } from './lock.ts';
import {
  readTemplate,
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
  /** Units of them that start when they are told to, not at boot. */
  notAtBoot?: readonly string[];
  /** The repository that the agent's code is taken from. */
  source: string;
  /** Fetches Debian's present packages, and builds in any case. */
  fresh?: boolean;
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
      const final = templateDirectory(request.cache, request.name);
      const inputs = await templateInputs(request.source, request.include, request.notAtBoot ?? []);
      const present = await readTemplate(request.cache, request.name).catch(() => null);
      if (present?.inputs === inputs && !request.fresh) return present;
      await assertUnused(templatePaths(final).root);
      await assertSpace(store);
      await removePartials(store);
      const partial = join(store, `.partial-${request.name}`);
      try {
        const template = await buildInto(templatePaths(partial), inputs, request);
        await replace(final, partial);
        return template;
      } catch (error) {
        await removeTree(partial);
        throw error;
      }
    },
  );
}

async function buildInto(paths: TemplatePaths, inputs: string, request: BuildRequest): Promise<Template> {
  const { cache, name, source, notAtBoot = [], report } = request;
  const packages = [...new Set(request.include)].sort();
  const base = await ensureBaseTree(cache, packages, report, request.fresh);
  report('laying the agent over it');
  await mkdir(paths.directory);
  await exec(['cp', '--archive', '--reflink=auto', base, paths.root], { timeoutMs: 300_000 });
  await applyAgentLayer(paths.root, source);
  await disableUnits(paths.root, notAtBoot);
  report('computing its identity, making the disk');
  const id = await treeIdentity(paths.root);
  const kernel = await makeBootFiles(paths);
  const template: Template = { name, id, packages, inputs, builtAt: new Date().toISOString(), kernel };
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

/** Refuses while some process, in whichever mount namespace, sees a mount over the tree. */
async function assertUnused(root: string): Promise<void> {
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const mounts = await readFile(`/proc/${pid}/mountinfo`, 'utf8').catch(() => '');
    if (mounts.includes(`lowerdir=${root}`))
      throw new SeamlessError(
        'REQUEST_INVALID',
        `a sink or a native VM stands on ${root} (process ${pid} is in it); unpark the VM or take the lab down first, or build under another --name`,
      );
  }
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
