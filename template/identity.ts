/**
 * The identity of a tree: SHA-256 over the sorted list of its entries (path, type, mode, owner, and size with
 * content hash, link target, or device number). Times, inode numbers and the order of directories don't count, so two
 * builds from the same packages are equal. What differs between machines of one template is left out.
 */
import { createHash } from 'node:crypto';
import { createReadStream, type Stats } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';

/** Files that each machine has its own of, or that only cache what other files say; paths relative to the tree. */
export const PER_MACHINE: readonly RegExp[] = [
  /^etc\/machine-id$/,
  /^etc\/hostname$/,
  /^etc\/hosts$/,
  /^etc\/resolv\.conf$/,
  /^etc\/seamless(\/|$)/,
  /^etc\/ssh\/ssh_host_/,
  /^root\/\.ssh(\/|$)/,
  /^usr\/lib\/seamless\/template\.json$/,
  /^(dev|proc|run|sys|tmp)\//,
  /^var\/(cache|log|tmp)\//,
  /^var\/lib\/apt\/lists\//,
  /^var\/lib\/dbus\/machine-id$/,
  /^var\/lib\/systemd\/(random-seed|catalog\/database)$/,
];

const CONCURRENT_FILES = 32;

/** @returns the identity of the tree at `root` as 64 hex digits. */
export async function treeIdentity(root: string): Promise<string> {
  const paths = (await entriesBelow(root)).filter((path) => !isPerMachine(path)).sort(byBytes);
  const hash = createHash('sha256');
  for (let at = 0; at < paths.length; at += CONCURRENT_FILES) {
    const lines = await Promise.all(
      paths.slice(at, at + CONCURRENT_FILES).map((path) => describeEntry(root, path)),
    );
    for (const line of lines) hash.update(line);
  }
  return hash.digest('hex');
}

/** All paths below `root`. Not `readdir({ recursive })` of names: that follows links, out of the tree. */
async function entriesBelow(root: string, folder = ''): Promise<string[]> {
  const entries = await readdir(join(root, folder), { withFileTypes: true });
  const nested = await Promise.all(
    entries.map(async (entry) => {
      const path = join(folder, entry.name);
      return entry.isDirectory() ? [path, ...(await entriesBelow(root, path))] : [path];
    }),
  );
  return nested.flat();
}

export function isPerMachine(path: string): boolean {
  return PER_MACHINE.some((pattern) => pattern.test(path));
}

/** One entry as text that no other entry can produce: fields are separated by NUL, which no path contains. */
async function describeEntry(root: string, path: string): Promise<string> {
  const full = join(root, path);
  const stats = await lstat(full);
  const fields = [path, kindOf(stats), (stats.mode & 0o7777).toString(8), stats.uid, stats.gid];
  if (stats.isSymbolicLink()) fields.push(await readlink(full));
  else if (stats.isFile()) fields.push(stats.size, await hashFile(full));
  else if (stats.isBlockDevice() || stats.isCharacterDevice()) fields.push(stats.rdev);
  return `${fields.join('\0')}\n`;
}

function kindOf(stats: Stats): string {
  if (stats.isFile()) return 'file';
  if (stats.isDirectory()) return 'directory';
  if (stats.isSymbolicLink()) return 'link';
  if (stats.isCharacterDevice()) return 'character';
  if (stats.isBlockDevice()) return 'block';
  return stats.isFIFO() ? 'fifo' : 'socket';
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** Byte order, which no locale changes. */
function byBytes(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
