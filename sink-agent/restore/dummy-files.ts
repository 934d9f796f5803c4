/**
 * The files that the restored processes hold. Executables and libraries are the template's own, and must be the VM's too; of the
 * rest, what the template has unchanged is used as it is, and everything else gets a dummy: sparse, of the same size, mode, owner and time.
 * CRIU opens these at the restore; afterwards any call on one is activity.
 */
import type { Stats } from 'node:fs';
import { chmod, lchown, mkdir, open, rm, utimes } from 'node:fs/promises';
import { SeamlessError } from '../../common/errors.ts';
import { exec } from '../../common/exec.ts';
import type { HeldFile } from '../../criu/manifest.ts';
import { AGENT_FOLDER } from '../sandbox/sandbox.ts';
import { inTree, makeParents, statInTree } from './tree-paths.ts';

/** What to do about a held file: nothing, make a dummy in its place, or refuse. */
export type FileAction = 'keep' | 'make' | { refuse: 'TEMPLATE_MISMATCH' | 'RESTORE_FAILED'; reason: string };

/** Sees to it that every held file is in the tree at `root`. `TEMPLATE_MISMATCH` names executables that differ. */
export async function placeFiles(root: string, files: readonly HeldFile[]): Promise<void> {
  const found = await Promise.all(
    files.map(async (file) => ({
      file,
      action: decide(file, isOurs(file) ? null : await statInTree(root, file.path)),
    })),
  );
  const refusals = found.flatMap(({ file, action }) =>
    typeof action === 'object' ? [{ file, ...action }] : [],
  );
  const first = refusals[0];
  if (first) {
    throw new SeamlessError(
      first.refuse,
      refusals.map(({ file, reason }) => `${file.path}: ${reason}`).join('; '),
      {
        details: { files: refusals.map(({ file }) => file.path) },
      },
    );
  }
  for (const { file, action } of found) if (action === 'make') await make(root, file);
}

/** Makes the folders of sockets that CRIU will bind, and removes what an earlier restore has left there. */
export async function clearForBinding(root: string, paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    await makeParents(root, path);
    await rm(inTree(root, path), { force: true });
  }
}

/** @param present what the tree has at that path. */
export function decide(file: HeldFile, present: Stats | null): FileAction {
  if (isOurs(file))
    return { refuse: 'RESTORE_FAILED', reason: 'lies in the folder that the sink agent uses' };
  if (/^\/(proc|sys)\//.test(file.path)) return 'keep';
  if (file.executable) return compareExecutable(file, present);
  switch (file.type) {
    case 'file':
      return present?.isFile() && isUnchanged(file, present) ? 'keep' : 'make';
    case 'directory':
      return present?.isDirectory() ? 'keep' : 'make';
    case 'fifo':
    case 'socket':
      return 'make';
    case 'symlink':
      return 'keep'; // only its target can be open
    case 'char':
      if (present?.isCharacterDevice() || file.path.startsWith('/dev/pts/')) return 'keep'; // CRIU makes ptys
      return { refuse: 'RESTORE_FAILED', reason: 'expected a device that a sink has too, got another one' };
  }
}

function isOurs(file: HeldFile): boolean {
  return file.path === AGENT_FOLDER || file.path.startsWith(`${AGENT_FOLDER}/`);
}

function compareExecutable(file: HeldFile, present: Stats | null): FileAction {
  if (!present?.isFile())
    return { refuse: 'TEMPLATE_MISMATCH', reason: 'expected in the template, got nothing' };
  if (isUnchanged(file, present)) return 'keep';
  const reason =
    `expected ${file.size} bytes of ${time(file.mtime)} as in the VM, ` +
    `got ${present.size} bytes of ${time(present.mtimeMs / 1000)} in the template`;
  return { refuse: 'TEMPLATE_MISMATCH', reason };
}

function isUnchanged(file: HeldFile, present: Stats): boolean {
  return present.size === file.size && Math.floor(present.mtimeMs / 1000) === Math.floor(file.mtime);
}

async function make(root: string, file: HeldFile): Promise<void> {
  const path = inTree(root, file.path);
  await makeParents(root, file.path);
  if (file.type === 'socket') return; // the stand-in of whoever reads it is bound there at the restore
  await rm(path, { recursive: true, force: true }); // of another kind or size than the VM’s
  if (file.type === 'directory') await mkdir(path);
  else if (file.type === 'fifo') await exec(['mkfifo', path]);
  else await makeSparse(path, file.size);
  await lchown(path, file.uid, file.gid);
  await chmod(path, file.mode & 0o7777);
  await utimes(path, file.mtime, file.mtime);
}

async function makeSparse(path: string, size: number): Promise<void> {
  const handle = await open(path, 'wx', 0o600);
  try {
    await handle.truncate(size);
  } finally {
    await handle.close();
  }
}

function time(seconds: number): string {
  return new Date(Math.floor(seconds) * 1000).toISOString();
}
