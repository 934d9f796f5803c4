/**
 * What a profile lets the processes in a sink look at, in the terms of both agents and of the filter. Compiled by profiles/compile.ts;
 * the vm-agent adds the named files to the manifest, the sink agent puts them in place and tells the filter.
 *
 * A pattern is an absolute path whose last component may have `*` and `?`; a leading dot must be written out.
 */

/** One line for the filter: what `program` (its name in the process table) may do. */
export type AllowedCall =
  | { program: string; effect: 'stat' | 'open' | 'list'; path: string }
  | { program: string; effect: 'call'; call: string };

/** @param open whether its content may be read, too. */
export interface AnsweredPath {
  path: string;
  open: boolean;
}

/** The patterns of `allow`, each once, with all that is in folders that may be listed. Those of /proc are answered by the sink's own. */
export function answeredPaths(allow: readonly AllowedCall[]): AnsweredPath[] {
  const paths = new Map<string, boolean>();
  for (const each of allow) {
    if (each.effect === 'call' || each.path.startsWith('/proc/')) continue;
    paths.set(each.path, paths.get(each.path) === true || each.effect === 'open');
    if (each.effect !== 'list') continue;
    for (const inside of [`${each.path}/*`, `${each.path}/.*`]) paths.set(inside, paths.get(inside) === true);
  }
  return [...paths].map(([path, open]) => ({ path, open }));
}

/** Whether `name` matches the last component `pattern`, as the filter matches it. */
export function matchesName(pattern: string, name: string): boolean {
  if (name.startsWith('.') && !pattern.startsWith('.')) return false;
  const source = pattern
    .replace(/[\\^$.+()[\]{}|]/g, '\\$&')
    .replace(/\*/g, '.*')
    .replace(/\?/g, '.');
  return new RegExp(`^${source}$`, 's').test(name);
}

/** Folder and last component. */
export function splitPath(path: string): { folder: string; name: string } {
  const slash = path.lastIndexOf('/');
  return { folder: path.slice(0, slash) || '/', name: path.slice(slash + 1) };
}
