/**
 * An image less what another one has: CRIU's incremental image, made after the fact. The VM still holds the image that
 * it sent, and processes that only waited have changed few pages since; so the way back carries those alone, and CRIU itself
 * takes the rest from the parent image (`IMAGE/TREE/parent`, a link to the parent's folder of that tree).
 *
 * Pages are compared byte by byte at the same address of the same process; nothing is guessed from times or marks.
 * Images lie on tmpfs, where no call waits for a disk: they are read and written synchronously, which on a busy machine takes a quarter of
 * the time that a thread pool does; after each few megabytes others get their turn.
 */
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as othersTurn } from 'node:timers/promises';
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
/** Read at once. */
const BLOCK_PAGES = 256;
/** Compared before others get their turn: about 2 ms of work. */
const TURN_PAGES = 1024;

/** Makes in `into` (which must not exist) an image of `trees` that needs the one in `parent`. All three are on the same file system. */
export async function makeDelta(
  image: string,
  parent: string,
  trees: readonly string[],
  into: string,
): Promise<{ pages: number; sent: number }> {
  const total = { pages: 0, sent: 0 };
  for (const tree of trees) {
    const folders = { from: join(image, tree), parent: join(parent, tree), to: join(into, tree) };
    mkdirSync(folders.to, { recursive: true, mode: 0o700 });
    const replaced = new Set<string>();
    const names = readdirSync(folders.from);
    for (const name of names.filter((each) => /^pagemap-\d+\.img$/.test(each))) {
      const counted = await thinOut(name, folders, replaced);
      total.pages += counted.pages;
      total.sent += counted.sent;
    }
    const others = names.filter((name) => name.endsWith('.img') && !replaced.has(name));
    for (const name of others) linkSync(join(folders.from, name), join(folders.to, name));
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

/** Rewrites a page map and its pages file without what the parent has; a process that the parent lacks stays as it is. */
async function thinOut(
  name: string,
  folders: Folders,
  replaced: Set<string>,
): Promise<{ pages: number; sent: number }> {
  const present = readIfThere(join(folders.parent, name));
  if (!present) return { pages: 0, sent: 0 };
  const base = parsePageMap(present);
  const map = parsePageMap(readFileSync(join(folders.from, name)));
  const pagesFile = (id: number) => `pages-${id}.img`;
  const now = openSync(join(folders.from, pagesFile(map.pagesId)), 'r');
  const before = openSync(join(folders.parent, pagesFile(base.pagesId)), 'r');
  const out = openSync(join(folders.to, pagesFile(map.pagesId)), 'wx', 0o600);
  try {
    const runs: PageRun[] = [];
    const located = locate(base);
    let offset = 0;
    let sinceTurn = 0;
    for (const run of map.runs) {
      if (!(run.flags & PRESENT)) {
        runs.push(run);
        continue;
      }
      for (const part of split(run, located)) {
        for (let done = 0; done < part.pages; done += BLOCK_PAGES) {
          const pages = Math.min(BLOCK_PAGES, part.pages - done);
          compare(
            part,
            { done, pages, offset: offset + (part.address - run.address) },
            { now, before, out, runs },
          );
          sinceTurn += pages;
          if (sinceTurn < TURN_PAGES) continue;
          sinceTurn = 0;
          await othersTurn();
        }
      }
      offset += run.pages * PAGE_BYTES;
    }
    writeFileSync(join(folders.to, name), encodePageMap({ ...map, runs }), { mode: 0o600 });
    replaced.add(name).add(pagesFile(map.pagesId));
    const count = (flag: number) =>
      runs.reduce((sum, { flags, pages }) => sum + (flags & flag ? pages : 0), 0);
    return { pages: count(PRESENT) + count(IN_PARENT), sent: count(PRESENT) };
  } finally {
    for (const descriptor of [now, before, out]) closeSync(descriptor);
  }
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
  /** Where its first page is in the pages file. */
  offset: number;
}

function locate({ runs }: PageMap): LocatedRun[] {
  let offset = 0;
  const located: LocatedRun[] = [];
  for (const run of runs) {
    if (!(run.flags & PRESENT)) continue;
    located.push({ ...run, offset });
    offset += run.pages * PAGE_BYTES;
  }
  return located;
}

/** A part of a run that the parent has as a whole, at `base` of its pages file, or not at all. */
interface Part extends PageRun {
  base: number | null;
}

/** Both lists are in the order of addresses, as CRIU writes them. */
function* split(run: PageRun, located: readonly LocatedRun[]): Generator<Part> {
  const end = run.address + run.pages * PAGE_BYTES;
  let at = run.address;
  const upTo = (next: number, base: number | null): Part => {
    const part = { address: at, pages: (next - at) / PAGE_BYTES, flags: run.flags, base };
    at = next;
    return part;
  };
  for (let index = firstEndingAfter(located, at); at < end; index++) {
    const other = located[index];
    if (!other || other.address >= end) break;
    if (other.address > at) yield upTo(other.address, null);
    yield upTo(Math.min(end, other.address + other.pages * PAGE_BYTES), other.offset + (at - other.address));
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

interface Streams {
  now: number;
  before: number;
  out: number;
  runs: PageRun[];
}

/** The block of `part` that begins `done` pages into it; `offset` is where the part begins in the pages file. */
interface Block {
  done: number;
  pages: number;
  offset: number;
}

function compare(part: Part, { done, pages, offset }: Block, { now, before, out, runs }: Streams): void {
  const skipped = done * PAGE_BYTES;
  const block = read(now, offset + skipped, pages, 0);
  const old = part.base === null ? null : read(before, part.base + skipped, pages, 1);
  for (let page = 0; page < pages; ) {
    const same = isSame(block, old, page);
    let next = page + 1;
    while (next < pages && isSame(block, old, next) === same) next++;
    const flags = same ? (part.flags & ~PRESENT) | IN_PARENT : part.flags;
    append(runs, { address: part.address + skipped + page * PAGE_BYTES, pages: next - page, flags });
    if (!same) write(out, block.subarray(page * PAGE_BYTES, next * PAGE_BYTES));
    page = next;
  }
}

function isSame(block: Buffer, old: Buffer | null, page: number): boolean {
  const [from, to] = [page * PAGE_BYTES, (page + 1) * PAGE_BYTES];
  return old !== null && block.compare(old, from, to, from, to) === 0;
}

/** Joins what continues the last run: a map of single pages would cost more than it saves. */
function append(runs: PageRun[], run: PageRun): void {
  const last = runs.at(-1);
  if (last && last.flags === run.flags && last.address + last.pages * PAGE_BYTES === run.address) {
    last.pages += run.pages;
  } else runs.push(run);
}

/** For a block of each image; nobody else gets a turn between a read and its comparison. */
const BLOCKS = [
  Buffer.allocUnsafeSlow(BLOCK_PAGES * PAGE_BYTES),
  Buffer.allocUnsafeSlow(BLOCK_PAGES * PAGE_BYTES),
] as const;

function read(file: number, position: number, pages: number, which: 0 | 1): Buffer {
  const block = BLOCKS[which].subarray(0, pages * PAGE_BYTES);
  const bytes = readSync(file, block, 0, block.length, position);
  if (bytes === block.length) return block;
  throw new Error(`expected ${block.length} bytes of pages at ${position}, got ${bytes}`);
}

function write(file: number, bytes: Buffer): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
}
