/** The templates of this sink server: `templatesDir/NAME/template.json` with an id, and beside it `root/`. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import { assertSupported } from '../criu/arguments.ts';
import { criuProblems } from '../criu/check.ts';

export interface SinkTemplate {
  id: string;
  /** Its root tree; never written to. */
  root: string;
}

export interface TemplateStore {
  list(): Promise<SinkTemplate[]>;
  /** The template with this id; `TEMPLATE_MISMATCH` when there is none. */
  find(id: string): Promise<SinkTemplate>;
  /** Version of the CRIU inside a template, which its sinks run; asked once. */
  criuVersion(template: SinkTemplate): Promise<string>;
  /** What that CRIU finds wrong with this kernel. */
  criuProblems(template: SinkTemplate): Promise<string[]>;
}

/**
 * Runs what follows a template’s root in it, with mounts that end with it: CRIU looks for a root that is one, /proc, devices, and
 * places to write to. The tree itself is not written to, and may be mounted read-only.
 */
const ENTER_TEMPLATE = [
  ...['unshare', '--mount', '--pid', '--fork', 'sh', '-ec'],
  `root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t tmpfs none run; mount -t tmpfs none tmp; mount --rbind /dev dev; mount -t proc none proc
pivot_root . mnt
umount -l /mnt
exec "$@"`,
  'sh',
] as const;

export function openTemplateStore(folder: string): TemplateStore {
  const versions = new Map<string, string>();
  const list = async () => {
    const names = await readdir(folder).catch(() => []);
    const found = await Promise.all(names.sort().map((name) => readTemplate(join(folder, name))));
    return found.filter((template) => template !== null);
  };
  return {
    list,
    async find(id) {
      const templates = await list();
      const template = templates.find((candidate) => candidate.id === id);
      if (template) return template;
      throw new SeamlessError(
        'TEMPLATE_MISMATCH',
        `Expected the VM’s template ${id} in ${folder}, got ${templates.map((other) => other.id).join(', ') || 'none'}; ` +
          'add it there, or rebuild the VM from one of these',
      );
    },
    async criuVersion(template) {
      const version = versions.get(template.id) ?? (await readCriuVersion(template));
      versions.set(template.id, version);
      return version;
    },
    criuProblems: ({ root }) => criuProblems([...ENTER_TEMPLATE, root]),
  };
}

async function readTemplate(folder: string): Promise<SinkTemplate | null> {
  try {
    const { id } = JSON.parse(await readFile(join(folder, 'template.json'), 'utf8')) as { id?: unknown };
    return typeof id === 'string' ? { id, root: join(folder, 'root') } : null;
  } catch {
    return null; // being built, or not a template
  }
}

async function readCriuVersion(template: SinkTemplate): Promise<string> {
  const { stdout } = await exec(['chroot', template.root, 'criu', '--version']);
  const version = /Version:\s*(\d[\d.]*)/.exec(stdout)?.[1];
  if (!version) {
    throw new SeamlessError('PREREQUISITE_MISSING', `Expected criu in ${template.root}, got "${stdout}"`);
  }
  assertSupported(version);
  return version;
}
