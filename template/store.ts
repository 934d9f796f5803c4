/**
 * Where templates lie: ${SEAMLESS_CACHE:-/var/cache/seamless}/templates/NAME/
 *   root/          the tree that sinks use as their root
 *   disk.raw       the same tree as an ext4 file system, the backing file of every VM's disk
 *   vmlinux, initramfs.img   what QEMU boots it with
 *   template.json  what it is (`Template`)
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../common/errors.ts';

export interface Template {
  name: string;
  /** SHA-256 over the tree, see identity.ts; equal for equal trees, whenever and wherever they were built. */
  id: string;
  /** Packages asked for with `--include`, sorted. */
  packages: string[];
  /** ISO 8601. */
  builtAt: string;
  /** What it was built from, see inputs.ts: equal inputs need no new build. */
  inputs: string;
  /** Release of the kernel inside, as `uname -r` says. */
  kernel: string;
}

export interface TemplatePaths {
  directory: string;
  root: string;
  disk: string;
  kernel: string;
  initramfs: string;
  description: string;
}

const NAME = /^[a-z0-9][a-z0-9-]{0,31}$/;

export function cacheDirectory(env: NodeJS.ProcessEnv): string {
  return env.SEAMLESS_CACHE ?? '/var/cache/seamless';
}

export function templatesDirectory(cache: string): string {
  return join(cache, 'templates');
}

export function templatePaths(directory: string): TemplatePaths {
  return {
    directory,
    root: join(directory, 'root'),
    disk: join(directory, 'disk.raw'),
    kernel: join(directory, 'vmlinux'),
    initramfs: join(directory, 'initramfs.img'),
    description: join(directory, 'template.json'),
  };
}

/** The folder of template `name`, which need not exist; a name that could leave the store is refused. */
export function templateDirectory(cache: string, name: string): string {
  if (!NAME.test(name))
    throw new SeamlessError(
      'REQUEST_INVALID',
      `expected a template name of a–z, 0–9 and -, got "${name}"; choose another`,
    );
  return join(templatesDirectory(cache), name);
}

export async function readTemplate(cache: string, name: string): Promise<Template> {
  const { description } = templatePaths(templateDirectory(cache, name));
  try {
    return JSON.parse(await readFile(description, 'utf8')) as Template;
  } catch (cause) {
    throw new SeamlessError(
      'PREREQUISITE_MISSING',
      `template "${name}" is not built (no readable ${description}); run scripts/template build --name ${name}`,
      { cause },
    );
  }
}

/** All built templates, by name. */
export async function listTemplates(cache: string): Promise<Template[]> {
  const names = await readdir(templatesDirectory(cache)).catch(() => []);
  const built = await Promise.all(
    names
      .filter((name) => NAME.test(name))
      .sort()
      .map((name) => readTemplate(cache, name).catch(() => null)),
  );
  return built.filter((template) => template !== null);
}
