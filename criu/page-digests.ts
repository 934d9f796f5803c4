/**
 * The digests of an image's pages: what is left of the image that a sink was restored from, once its processes live. They say which pages
 * have changed since (criu/page-digests/page-digests.c, which also says why a digest will do), and take a hundredth of the memory.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import type { Exec } from '../common/exec.ts';

/** `npm run build` makes it. */
export const PAGE_DIGESTS_PROGRAM = join(import.meta.dirname, '../build/page-digests');
const DEADLINE_MS = 60_000;

/** Pages beside each other in a pages file, by their place in it. */
export interface ComparedRun {
  index: number;
  pages: number;
  /** Where the other image has them; `null` when it has not. */
  other: number | null;
}

export interface ComparedProcess {
  /** Folder of its tree in the image, in the other one, and where the pages go that differ. */
  from: string;
  parent: string;
  to: string;
  map: { pagesId: number };
  parentPagesId: number;
  runs: readonly ComparedRun[];
}

/** CRIU's name of a pages file. */
export const pagesFile = (id: number) => `pages-${id}.img`;
const digestsFile = (id: number) => `pages-${id}.digests`;

/** Leaves, of the image in `folder`, the digests of its pages in their place. Safe to repeat, also after a death in between. */
export async function keepDigests(folder: string, trees: readonly string[], exec: Exec): Promise<void> {
  const pages = trees.flatMap((tree) =>
    readdirSync(join(folder, tree)).flatMap((name) => {
      const id = /^pages-(\d+)\.img$/.exec(name)?.[1];
      return id === undefined ? [] : [{ tree: join(folder, tree), id: Number(id) }];
    }),
  );
  if (pages.length === 0) return;
  await run(
    folder,
    pages.map(({ tree, id }) => note(folder, tree, id)),
    exec,
  );
  for (const { tree, id } of pages) rmSync(join(tree, pagesFile(id)));
}

/** Which pages of each process are the other image's, in the order of its pages file; those that are not are written. */
export async function comparePages(processes: readonly ComparedProcess[], exec: Exec): Promise<boolean[][]> {
  const [first] = processes;
  if (!first) return [];
  const base = dirname(dirname(first.from));
  const lines = processes.flatMap(({ from, parent, to, map, parentPagesId, runs }) => {
    const digests = join(parent, digestsFile(parentPagesId));
    const paths = [join(from, pagesFile(map.pagesId)), digests, join(to, pagesFile(map.pagesId))];
    return [
      ...(existsSync(join(parent, pagesFile(parentPagesId))) ? [note(base, parent, parentPagesId)] : []),
      `compare ${paths.map((path) => relative(base, path)).join(' ')}`,
      ...runs.map(({ index, pages, other }) => `${index} ${other ?? -1} ${pages}`),
      '',
    ];
  });
  const marks = (await run(base, lines, exec)).split('\n');
  return processes.map(({ runs }, at) => {
    const line = marks[at] ?? '';
    const expected = runs.reduce((sum, { pages }) => sum + pages, 0);
    if (line.length !== expected)
      throw new Error(`expected a mark for ${expected} pages, got ${line.length}`);
    return [...line].map((mark) => mark === '=');
  });
}

function note(base: string, tree: string, id: number): string {
  return `note ${[pagesFile(id), digestsFile(id)].map((name) => relative(base, join(tree, name))).join(' ')}`;
}

/** In `folder`, so that the names it reads hold nothing but those of images, trees and CRIU's files. */
async function run(folder: string, lines: readonly string[], exec: Exec): Promise<string> {
  const { stdout } = await exec([PAGE_DIGESTS_PROGRAM], {
    cwd: folder,
    input: `${lines.join('\n')}\n`,
    timeoutMs: DEADLINE_MS,
  });
  return stdout;
}
