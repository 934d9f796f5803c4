/**
 * What the processes may look at in the sink because the template's profile says so: put in place exactly as it is in the VM, and what
 * is not there removed here too, so that each answer is the one that the VM would give. And the lines that tell the filter.
 */
import { constants, type Stats } from 'node:fs';
import { chmod, lchown, lstat, mkdir, readdir, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { posix } from 'node:path';
import { SeamlessError } from '../../common/errors.ts';
import { exec } from '../../common/exec.ts';
import {
  type AllowedCall,
  type AnsweredPath,
  answeredPaths,
  matchesName,
  splitPath,
} from '../../criu/answers.ts';
import type { HeldFile } from '../../criu/manifest.ts';
import { AGENT_FOLDER } from '../sandbox/sandbox.ts';
import { inTree, makeParents, statInTree } from './tree-paths.ts';

/** Of one call of `touch`. */
const MOST_ARGUMENTS = 200;

/** Call it last: whatever else makes a file changes its folder's time. @param files of the manifest; those answered are in the tree, as dummies. */
export async function placeAnswers(
  root: string,
  files: readonly HeldFile[],
  allow: readonly AllowedCall[],
): Promise<void> {
  const there = new Map(files.map((file) => [file.path, file]));
  for (const pattern of answeredPaths(allow)) await removeOthers(root, pattern, there);
  const answered = files.filter((file) => file.answered === true);
  for (const file of answered) await makeExact(root, file);
  const byTime = Map.groupBy(answered, ({ mtime, mtimeExact }) => mtimeExact ?? String(mtime));
  for (const [time, group] of byTime) {
    for (let at = 0; at < group.length; at += MOST_ARGUMENTS) {
      const paths = group.slice(at, at + MOST_ARGUMENTS).map(({ path }) => inTree(root, path));
      await exec(['touch', '--no-create', '--no-dereference', `--date=@${time}`, '--', ...paths]);
    }
  }
}

/**
 * The lines for the filter, see syscall-filter/profile.h. A file that came without its content can't be opened: `deny` beats `open`.
 * `*` and `?` in a name that is denied deny a few more.
 */
export function filterLines(allow: readonly AllowedCall[], files: readonly HeldFile[]): string {
  const closed = files.filter(
    ({ answered, content, type }) => answered && type === 'file' && content === undefined,
  );
  const programs = [...new Set(allow.flatMap((each) => (each.effect === 'open' ? [each.program] : [])))];
  const denied = programs.flatMap((program) =>
    closed.map(({ path }) => ({ program, effect: 'deny', path: path.replace(/[\\"\p{Cc}]/gu, '?') })),
  );
  return [...allow, ...denied].map((line) => `${JSON.stringify(line)}\n`).join('');
}

/** Where `folder` of the VM really lies, by the links that the manifest has. */
export function realFolder(folder: string, files: ReadonlyMap<string, HeldFile>): string {
  let real = '';
  for (const [index, component] of folder.split('/').slice(1).entries()) {
    const target = component === '' ? undefined : files.get(`${real}/${component}`)?.target;
    if (target === undefined) {
      real = component === '' ? real : `${real}/${component}`;
      continue;
    }
    const rest = folder.split('/').slice(index + 2);
    return realFolder(posix.resolve(real || '/', target, ...rest), files);
  }
  return real || '/';
}

async function removeOthers(
  root: string,
  { path }: AnsweredPath,
  files: ReadonlyMap<string, HeldFile>,
): Promise<void> {
  const { folder, name } = splitPath(path);
  const real = realFolder(folder, files);
  const stats = real === '/' ? null : await statInTree(root, real);
  if (real !== '/' && !stats?.isDirectory()) return;
  for (const each of await readdir(inTree(root, real))) {
    const at = real === '/' ? `/${each}` : `${real}/${each}`;
    const isOurs = AGENT_FOLDER === at || AGENT_FOLDER.startsWith(`${at}/`);
    if (matchesName(name, each) && !files.has(at) && !isOurs)
      await rm(inTree(root, at), { recursive: true, force: true });
  }
}

function kindOf(stats: Stats): string {
  if (stats.isSymbolicLink()) return 'symlink';
  if (stats.isDirectory()) return 'directory';
  return stats.isFile() ? 'file' : 'special file';
}

async function makeExact(root: string, file: HeldFile): Promise<void> {
  const at = inTree(root, file.path);
  await makeParents(root, file.path);
  if (file.type === 'symlink') {
    if ((await readlink(at).catch(() => null)) !== file.target) {
      await rm(at, { recursive: true, force: true });
      await symlink(file.target ?? '', at);
    }
  } else if (file.type === 'directory') {
    await mkdir(at, { recursive: true });
  }
  const stats = await lstat(at);
  // The manifest comes from a guest: a link that it has put where a file should be would lead the write out of the tree.
  if (kindOf(stats) !== file.type) {
    throw new SeamlessError(
      'RESTORE_FAILED',
      `Expected ${file.path} to be a ${file.type}, got a ${kindOf(stats)}`,
    );
  }
  if (file.type === 'file' && file.content !== undefined) {
    await writeFile(at, Buffer.from(file.content, 'base64'), {
      flag: constants.O_WRONLY | constants.O_TRUNC | constants.O_NOFOLLOW,
    });
  }
  if (stats.uid !== file.uid || stats.gid !== file.gid) await lchown(at, file.uid, file.gid);
  if (file.type !== 'symlink') await chmod(at, file.mode & 0o7777);
}
