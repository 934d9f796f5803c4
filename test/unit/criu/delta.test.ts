/** Images of random pages: what a delta leaves out is exactly what the parent has, and both together are the image. */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { linkToParent, makeDelta } from '../../../criu/delta.ts';
import { keepDigests } from '../../../criu/page-digests.ts';
import {
  encodePageMap,
  IN_PARENT,
  PAGE_BYTES,
  type PageRun,
  PRESENT,
  parsePageMap,
} from '../../../criu/page-map.ts';

/** Two magic numbers and a head that names pages file 1, as CRIU writes them. */
const HEAD = Buffer.from('1943565425400856020000000801', 'hex');
const LAZY = 2;

type Memory = Map<number, { content: string; flags: number }>;

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'criu-delta-'));
  onTestFinished(() => rmSync(path, { recursive: true }));
  return path;
}

const page = (content: string) => Buffer.alloc(PAGE_BYTES, content);

/** Writes an image of one process with this memory; neighbours of the same kind are one run. */
function writeImage(path: string, memory: Memory, countField = 2): void {
  mkdirSync(join(path, 'tree-7'), { recursive: true });
  const runs: PageRun[] = [];
  for (const [address, { flags }] of [...memory].sort(([a], [b]) => a - b)) {
    const last = runs.at(-1);
    if (last?.flags === flags && last.address + last.pages * PAGE_BYTES === address) last.pages++;
    else runs.push({ address, pages: 1, flags });
  }
  const ordered = [...memory].sort(([a], [b]) => a - b).map(([, { content }]) => page(content));
  writeFileSync(
    join(path, 'tree-7/pagemap-7.img'),
    encodePageMap({ pagesId: 1, head: HEAD, runs, countField }),
  );
  writeFileSync(join(path, 'tree-7/pages-1.img'), Buffer.concat(ordered));
  writeFileSync(join(path, 'tree-7/core-7.img'), 'registers');
  writeFileSync(join(path, 'tree-7/dump.log'), 'a long log');
}

/** Reads it as CRIU does: what is marked as the parent's is looked for there. */
function readMemory(path: string, parent?: Memory): { memory: Memory; own: number } {
  const { runs } = parsePageMap(readFileSync(join(path, 'tree-7/pagemap-7.img')));
  const pages = readFileSync(join(path, 'tree-7/pages-1.img'));
  const memory: Memory = new Map();
  let own = 0;
  for (const { address, pages: count, flags } of runs) {
    for (let at = address; at < address + count * PAGE_BYTES; at += PAGE_BYTES) {
      if (flags & IN_PARENT) {
        const inherited = parent?.get(at);
        if (!inherited) throw new Error(`the parent has no page at ${at}`);
        memory.set(at, { content: inherited.content, flags: (flags & ~IN_PARENT) | PRESENT });
      } else {
        const content = pages.subarray(own * PAGE_BYTES, (own + 1) * PAGE_BYTES);
        expect(content.equals(page(String.fromCharCode(content[0] ?? 0)))).toBe(true);
        memory.set(at, { content: String.fromCharCode(content[0] ?? 0), flags });
        own++;
      }
    }
  }
  expect(pages.length).toBe(own * PAGE_BYTES);
  return { memory, own };
}

/** A small generator with a seed: the same cases in every run. */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function randomMemory(random: (below: number) => number): Memory {
  const memory: Memory = new Map();
  let address = 0x7f0000000000 + random(4) * PAGE_BYTES;
  for (let i = 0; i < 40; i++) {
    address += PAGE_BYTES * (random(4) === 0 ? 1 + random(600) : 1);
    memory.set(address, {
      content: 'abc'[random(3)] ?? 'a',
      flags: random(8) === 0 ? PRESENT | LAZY : PRESENT,
    });
  }
  return memory;
}

test.each([1, 2, 3, 4, 5, 6, 7, 8])('delta and parent together are the image (case %i)', async (seed) => {
  const random = seeded(seed);
  const at = folder();
  const before = randomMemory(random);
  const after: Memory = new Map(randomMemory(random));
  for (const [address, one] of before) {
    if (random(5) > 0) after.set(address, random(3) === 0 ? { content: 'x', flags: PRESENT } : one);
  }
  writeImage(join(at, 'there'), before, seed % 2 === 0 ? 2 : 5);
  writeImage(join(at, 'back'), after, seed % 2 === 0 ? 2 : 5);
  const made = await makeDelta(join(at, 'back'), join(at, 'there'), ['tree-7'], join(at, 'delta'), exec);

  const { memory, own } = readMemory(join(at, 'delta'), before);
  expect(new Map([...memory].sort())).toEqual(new Map([...after].sort()));
  const changed = [...after].filter(([address, { content }]) => before.get(address)?.content !== content);
  expect(own).toBe(changed.length);
  expect(made).toEqual({ pages: after.size, sent: changed.length });
});

test('long runs are compared block by block, and equal ones stay one run', async () => {
  const at = folder();
  const memory: Memory = new Map();
  for (let i = 0; i < 1000; i++) memory.set(0x10000 + i * PAGE_BYTES, { content: 'a', flags: PRESENT });
  writeImage(join(at, 'there'), memory);
  memory.set(0x10000 + 300 * PAGE_BYTES, { content: 'b', flags: PRESENT });
  writeImage(join(at, 'back'), memory);
  await makeDelta(join(at, 'back'), join(at, 'there'), ['tree-7'], join(at, 'delta'), exec);
  const { runs } = parsePageMap(readFileSync(join(at, 'delta/tree-7/pagemap-7.img')));
  expect(runs.map(({ pages, flags }) => ({ pages, flags }))).toEqual([
    { pages: 300, flags: IN_PARENT },
    { pages: 1, flags: PRESENT },
    { pages: 699, flags: IN_PARENT },
  ]);
});

test('of the parent only digests are needed, and the image itself less itself is nothing', async () => {
  const at = folder();
  const memory: Memory = new Map();
  for (let i = 0; i < 50; i++)
    memory.set(0x10000 + i * PAGE_BYTES, { content: 'abc'[i % 3] ?? '', flags: PRESENT });
  writeImage(join(at, 'there'), memory);
  const before = new Map(memory);
  memory.set(0x10000 + 7 * PAGE_BYTES, { content: 'x', flags: PRESENT });
  memory.set(0x10000 + 90 * PAGE_BYTES, { content: 'a', flags: PRESENT });
  writeImage(join(at, 'back'), memory);

  for (const _time of [1, 2]) await keepDigests(join(at, 'there'), ['tree-7'], exec);
  expect(readdirSync(join(at, 'there/tree-7'))).not.toContain('pages-1.img');
  const made = await makeDelta(join(at, 'back'), join(at, 'there'), ['tree-7'], join(at, 'delta'), exec);
  expect(made).toEqual({ pages: 51, sent: 2 });
  expect(new Map([...readMemory(join(at, 'delta'), before).memory].sort())).toEqual(
    new Map([...memory].sort()),
  );
  const nothing = await makeDelta(
    join(at, 'there'),
    join(at, 'there'),
    ['tree-7'],
    join(at, 'rehearsal'),
    exec,
  );
  expect(nothing).toEqual({ pages: 50, sent: 0 });
});

test('one bit of a page is enough to make it another one, wherever it is', async () => {
  const at = folder();
  const memory: Memory = new Map([[0x10000, { content: 'a', flags: PRESENT }]]);
  writeImage(join(at, 'there'), memory);
  writeImage(join(at, 'back'), memory);
  await keepDigests(join(at, 'there'), ['tree-7'], exec);
  for (const bit of [0, 1, 63, 64, 8191, 16384, 32766, 32767]) {
    const changed = page('a');
    changed.writeUInt8((changed[bit >> 3] ?? 0) ^ (1 << (bit & 7)), bit >> 3);
    writeFileSync(join(at, 'back/tree-7/pages-1.img'), changed);
    const made = await makeDelta(
      join(at, 'back'),
      join(at, 'there'),
      ['tree-7'],
      join(at, `delta-${bit}`),
      exec,
    );
    expect(made.sent).toBe(1);
    expect(readFileSync(join(at, `delta-${bit}/tree-7/pages-1.img`)).equals(changed)).toBe(true);
  }
});

test('digests that do not fit the image make no delta', async () => {
  const at = folder();
  const memory: Memory = new Map([[0x10000, { content: 'a', flags: PRESENT }]]);
  writeImage(join(at, 'there'), memory);
  writeImage(join(at, 'back'), memory);
  await keepDigests(join(at, 'there'), ['tree-7'], exec);
  writeFileSync(join(at, 'there/tree-7/pages-1.digests'), 'cut short');
  const made = makeDelta(join(at, 'back'), join(at, 'there'), ['tree-7'], join(at, 'delta'), exec);
  await expect(made).rejects.toThrow('pages-1.digests: not as expected');
});

test('everything else of the image goes along, logs do not, and the tree is linked to its parent', async () => {
  const at = folder();
  const memory: Memory = new Map([[0x10000, { content: 'a', flags: PRESENT }]]);
  writeImage(join(at, 'there'), memory);
  writeImage(join(at, 'back'), memory);
  writeFileSync(
    join(at, 'back/tree-7/pagemap-8.img'),
    encodePageMap({ pagesId: 2, head: HEAD, runs: [], countField: 2 }),
  );
  await makeDelta(join(at, 'back'), join(at, 'there'), ['tree-7'], join(at, 'delta'), exec);
  // A process that the parent has not keeps its own map.
  expect(readdirSync(join(at, 'delta/tree-7')).sort()).toEqual([
    'core-7.img',
    'pagemap-7.img',
    'pagemap-8.img',
    'pages-1.img',
  ]);
  await linkToParent(join(at, 'delta'), 'there', ['tree-7']);
  expect(readlinkSync(join(at, 'delta/tree-7/parent'))).toBe('../../there/tree-7');
  expect(readFileSync(join(at, 'delta/tree-7/parent/core-7.img'), 'utf8')).toBe('registers');
});

test.each([
  ['cut short', Buffer.concat([HEAD, Buffer.from('0a00000008', 'hex')]), 'a whole message'],
  ['of another kind', Buffer.concat([HEAD, Buffer.from('020000000a00', 'hex')]), 'a number'],
  ['without an address', Buffer.concat([HEAD, Buffer.from('020000001001', 'hex')]), 'an address and a count'],
  [
    'with a number of 70 bits',
    Buffer.concat([HEAD, Buffer.from('0b00000008ffffffffffffffffff7f', 'hex')]),
    '53 bits',
  ],
  ['empty', Buffer.alloc(0), 'a whole message'],
])('a page map that is %s is refused', (_what, file, expected) => {
  expect(() => parsePageMap(file)).toThrow(expected);
});
