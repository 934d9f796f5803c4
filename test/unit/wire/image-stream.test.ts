import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { imageBytes, readImage, writeImage } from '../../../wire/image-stream.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'seamless-image-'));
  await mkdir(join(folder, 'image', 'tree-0'), { recursive: true });
  await writeFile(join(folder, 'image', 'manifest.json'), '{"version":1}', { mode: 0o600 });
  await writeFile(join(folder, 'image', 'tree-0', 'pages-1.img'), Buffer.alloc(3_000_000, 'page'));
  await writeFile(join(folder, 'image', 'tree-0', 'empty.img'), '');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function bytesOf(image: string): Promise<Buffer> {
  const wire = new PassThrough();
  const [, bytes] = await Promise.all([writeImage(image, wire), buffer(wire)]);
  return bytes;
}

/** The same bytes in blocks of an awkward size. */
function inBlocks(bytes: Buffer, size: number): Readable {
  const blocks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) =>
    bytes.subarray(n * size, (n + 1) * size),
  );
  return Readable.from(blocks, { objectMode: false });
}

test.each([1, 7, 4096, 10_000_000])('an image cut in blocks of %i bytes arrives whole', async (size) => {
  const bytes = await bytesOf(join(folder, 'image'));
  const wire = size === 1 ? inBlocks(bytes, 997) : inBlocks(bytes, size);
  const { bytes: received } = await readImage(wire, join(folder, 'copy'));
  expect(received).toBe(3_000_013);
  expect(imageBytes(join(folder, 'copy'))).toBe(received);
  const [sent, arrived] = await Promise.all(
    ['image', 'copy'].map((side) => readFile(join(folder, side, 'tree-0', 'pages-1.img'))),
  );
  expect(arrived && sent?.equals(arrived)).toBe(true);
  expect((await stat(join(folder, 'copy', 'manifest.json'))).mode & 0o777).toBe(0o600);
  expect((await stat(join(folder, 'copy', 'tree-0', 'empty.img'))).size).toBe(0);
});

test.each([
  ['a changed bit', (bytes: Buffer) => bytes.fill('x', 2_000_000, 2_000_001)],
  ['a missing end', (bytes: Buffer) => bytes.subarray(0, 2_000_000)],
  ['a missing trailer', (bytes: Buffer) => bytes.subarray(0, bytes.length - 3)],
  ['nothing at all', () => Buffer.alloc(0)],
  ['other text', () => Buffer.from('HTTP/1.1 500\n')],
  [
    'a name outside of the image',
    () => Buffer.from('{"version":1,"files":[{"name":"../evil","size":1,"mode":420}]}\nx[1]\n'),
  ],
])('an image with %s is refused and leaves nothing', async (_what, damage) => {
  const bytes = damage(await bytesOf(join(folder, 'image')));
  await expect(readImage(inBlocks(bytes, 65_536), join(folder, 'copy'))).rejects.toMatchObject({
    code: 'IMAGE_CORRUPT',
  });
  expect(await readdir(folder)).toEqual(['image']);
});
