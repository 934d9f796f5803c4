/**
 * The files that a profile lets the processes look at while they are in the sink: exactly as they are here, with the symbolic links
 * and folders on the way, so that the sink's answer is the one that the VM would give. What is not here is not listed: then the sink
 * makes sure that it is not there either.
 */
import { lstatSync, readdirSync, readFileSync, readlinkSync, type Stats } from 'node:fs';
import { posix } from 'node:path';
import { SeamlessError } from '../../common/errors.ts';
import { type AnsweredPath, matchesName, splitPath } from '../../criu/answers.ts';
import type { HeldFile } from '../../criu/manifest.ts';
import { describe } from './held-files.ts';

const MOST_FILES = 2000;
const MOST_LINKS = 40;
const MOST_CONTENT_BYTES = 256 * 1024;
const MOST_CONTENT_BYTES_IN_ALL = 2 * 1024 * 1024;

/** @param root of the file tree; another one than / in tests only. */
export function answeredFiles(patterns: readonly AnsweredPath[], root = ''): HeldFile[] {
  const found = new Map<string, HeldFile>();
  let contentBytes = 0;
  const add = (path: string, stats: Stats, more: Partial<HeldFile>) => {
    const known = found.get(path);
    found.set(path, {
      ...(known ?? describe(path, stats, false)),
      ...(more.answered ? exactTime(root + path) : {}),
      ...more,
    });
    if (found.size > MOST_FILES) throw tooMany(patterns);
  };
  /** Notes `path` and all that leads to it. @returns where it really lies, or `null` when there is nothing. */
  const walk = (path: string, last: (path: string, stats: Stats) => void, links = 0): string | null => {
    const { folder, name } = splitPath(path);
    const parent = folder === '/' ? '' : walk(folder, (at, stats) => add(at, stats, {}), links);
    if (parent === null) return null;
    const at = name === '' ? '/' : `${parent === '/' ? '' : parent}/${name}`;
    const stats = lstatSync(root + at, { throwIfNoEntry: false });
    if (!stats) return null;
    if (!stats.isSymbolicLink()) {
      last(at, stats);
      return at;
    }
    const target = readlinkSync(root + at);
    add(at, stats, { answered: true, target });
    if (links >= MOST_LINKS) return null;
    return walk(posix.resolve(parent || '/', target), last, links + 1);
  };
  for (const { path, open } of patterns) {
    const answer = (at: string, stats: Stats) => {
      if (!stats.isFile() && !stats.isDirectory()) throw cannotAnswer(path, at);
      const bytes = open && stats.isFile() ? stats.size : Number.POSITIVE_INFINITY;
      const fits = bytes <= MOST_CONTENT_BYTES && contentBytes + bytes <= MOST_CONTENT_BYTES_IN_ALL;
      const carries = fits && found.get(at)?.content === undefined;
      if (carries) contentBytes += bytes;
      add(at, stats, {
        answered: true,
        ...(carries ? { content: readFileSync(root + at).toString('base64') } : {}),
      });
    };
    for (const each of expand(path, walk, root)) walk(each, answer);
  }
  return [...found.values()];
}

/** `held` and `answered`, each path once; what both have is held, and answered. */
export function withAnswered(held: readonly HeldFile[], answered: readonly HeldFile[]): HeldFile[] {
  const files = new Map(answered.map((file) => [file.path, file]));
  for (const file of held) files.set(file.path, { ...files.get(file.path), ...file });
  return [...files.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

type Walk = (path: string, last: (path: string, stats: Stats) => void) => string | null;

/** The paths that match now. */
function expand(pattern: string, walk: Walk, root: string): string[] {
  const { folder, name } = splitPath(pattern);
  if (!/[*?]/.test(name)) return [pattern];
  const real = walk(folder, () => {});
  if (real === null) return [];
  const names = readdirSync(root + real).filter((each) => matchesName(name, each));
  return names.map((each) => `${folder === '/' ? '' : folder}/${each}`);
}

/** Programs that look for changes compare to the nanosecond. */
function exactTime(path: string): Partial<HeldFile> {
  const { mtimeNs } = lstatSync(path, { bigint: true });
  const nanoseconds = String(mtimeNs % 1_000_000_000n).padStart(9, '0');
  return { mtimeExact: `${mtimeNs / 1_000_000_000n}.${nanoseconds}` };
}

function cannotAnswer(pattern: string, path: string): SeamlessError {
  return new SeamlessError(
    'CONFIG_INVALID',
    `The profile names ${pattern}, but ${path} is neither a file nor a folder, and a sink can’t answer for it; name others`,
  );
}

function tooMany(patterns: readonly AnsweredPath[]): SeamlessError {
  return new SeamlessError(
    'CONFIG_INVALID',
    `The profile’s paths (${patterns.map(({ path }) => path).join(', ')}) stand for more than ${MOST_FILES} files; name fewer`,
  );
}
