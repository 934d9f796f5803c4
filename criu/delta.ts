/**
 * An image less what another one has: CRIU's incremental image, made after the fact. The VM still holds the image that
 * it sent, and processes that only waited have changed few pages since; so the way back carries those alone, and CRIU itself
 * takes the rest from the parent image (`IMAGE/TREE/parent`, a link to the parent's folder of that tree).
 *
 * Pages are compared with the digests of those at the same address of the same process (page-digests.ts); nothing is guessed from times or marks.
 */
import { linkSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Exec } from '../common/exec.ts';
import { type ComparedRun, comparePages, pagesFile } from './page-digests.ts';
import {
  encodePageMap,
  IN_PARENT,
  PAGE_BYTES,
  type PageMap,
  type PageRun,
  PRESENT,
  parsePageMap,
} from './page-map.ts';

/** CRIU's name of the link to the parent image. */
const PARENT_LINK = 'parent';

/** Makes in `into` (which must not exist) an image of `trees` that needs the one in `parent`. All three are beside each other. */
export async function makeDelta(
  image: string,
  parent: string,
  trees: readonly string[],
  into: string,
  exec: Exec,
): Promise<{ pages: number; sent: number }> {
  const thinned = trees.flatMap((tree) => {
    const folders = { from: join(image, tree), parent: join(parent, tree), to: join(into, tree) };
    mkdirSync(folders.to, { recursive: true, mode: 0o700 });
    const names = readdirSync(folders.from);
    const maps = names.filter((name) => /^pagemap-\d+\.img$/.test(name));
    const processes = maps.flatMap((name) => inBoth(name, folders) ?? []);
    const replaced = new Set(processes.flatMap(({ name, map }) => [name, pagesFile(map.pagesId)]));
    for (const name of names.filter((each) => each.endsWith('.img') && !replaced.has(each)))
      linkSync(join(folders.from, name), join(folders.to, name));
    return processes;
  });
  const marks = image === parent ? thinned.map(() => null) : await comparePages(thinned, exec);
  const total = { pages: 0, sent: 0 };
  for (const [index, process] of thinned.entries()) {
    const runs = runsLeft(process, marks[index] ?? null);
    if (image === parent) writeFileSync(join(process.to, pagesFile(process.map.pagesId)), '', { flag: 'wx' });
    writeFileSync(join(process.to, process.name), encodePageMap({ ...process.map, runs }), { mode: 0o600 });
    const count = (flag: number) =>
      runs.reduce((sum, { flags, pages }) => sum + (flags & flag ? pages : 0), 0);
    total.pages += count(PRESENT) + count(IN_PARENT);
    total.sent += count(PRESENT);
  }
  return total;
}

/** Links each tree of the image in `folder` to its parent's; CRIU follows the links at the restore. */
export async function linkToParent(
  folder: string,
  parentId: string,
  trees: readonly string[],
): Promise<void> {
  for (const tree of trees) await symlink(`../../${parentId}/${tree}`, join(folder, tree, PARENT_LINK));
}

interface Folders {
  from: string;
  parent: string;
  to: string;
}

/** A process of both images. */
interface InBoth extends Folders {
  /** Of its page map. */
  name: string;
  map: PageMap;
  parentPagesId: number;
  /** Its pages in the order of its pages file. */
  runs: ComparedRun[];
}

/** Null for a process that the parent lacks: it stays as it is. */
function inBoth(name: string, folders: Folders): InBoth | null {
  const present = readIfThere(join(folders.parent, name));
  if (!present) return null;
  const base = parsePageMap(present);
  const map = parsePageMap(readFileSync(join(folders.from, name)));
  const located = locate(base);
  const runs = locate(map).flatMap((run) => [...split(run, located)]);
  return { ...folders, name, map, parentPagesId: base.pagesId, runs };
}

function readIfThere(path: string): Buffer | null {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

interface LocatedRun extends PageRun {
  /** Which one its first page is in the pages file. */
  index: number;
}

function locate({ runs }: PageMap): LocatedRun[] {
  let index = 0;
  const located: LocatedRun[] = [];
  for (const run of runs) {
    if (!(run.flags & PRESENT)) continue;
    located.push({ ...run, index });
    index += run.pages;
  }
  return located;
}

/** Cuts `run` into parts that the parent has as a whole or not at all. Both lists are in the order of addresses, as CRIU writes them. */
function* split(run: LocatedRun, located: readonly LocatedRun[]): Generator<ComparedRun> {
  const end = run.address + run.pages * PAGE_BYTES;
  let at = run.address;
  const upTo = (next: number, other: number | null): ComparedRun => {
    const part = {
      index: run.index + (at - run.address) / PAGE_BYTES,
      pages: (next - at) / PAGE_BYTES,
      other,
    };
    at = next;
    return part;
  };
  for (let place = firstEndingAfter(located, at); at < end; place++) {
    const other = located[place];
    if (!other || other.address >= end) break;
    if (other.address > at) yield upTo(other.address, null);
    const index = other.index + (at - other.address) / PAGE_BYTES;
    yield upTo(Math.min(end, other.address + other.pages * PAGE_BYTES), index);
  }
  if (at < end) yield upTo(end, null);
}

function firstEndingAfter(located: readonly LocatedRun[], address: number): number {
  let [low, high] = [0, located.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const run = located[middle];
    if (run && run.address + run.pages * PAGE_BYTES > address) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The page map without what the parent has: by a mark for each page, or all of it. */
function runsLeft({ map }: InBoth, marks: readonly boolean[] | null): PageRun[] {
  const runs: PageRun[] = [];
  let index = 0;
  for (const run of map.runs) {
    if (!(run.flags & PRESENT)) {
      runs.push(run);
      continue;
    }
    for (let page = 0; page < run.pages; ) {
      const same = marks === null || marks[index + page] === true;
      let next = page + 1;
      while (next < run.pages && (marks === null || marks[index + next] === same)) next++;
      const flags = same ? (run.flags & ~PRESENT) | IN_PARENT : run.flags;
      append(runs, { address: run.address + page * PAGE_BYTES, pages: next - page, flags });
      page = next;
    }
    index += run.pages;
  }
  return runs;
}

/** Joins what continues the last run: a map of single pages would cost more than it saves. */
function append(runs: PageRun[], run: PageRun): void {
  const last = runs.at(-1);
  if (last && last.flags === run.flags && last.address + last.pages * PAGE_BYTES === run.address) {
    last.pages += run.pages;
  } else runs.push(run);
}
