import { zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { extractKernel } from '../../../template/boot-files.ts';

const SETUP_SECTORS = 3;

/** The parts of a bzImage that the extraction looks at. */
function bzImage(payload: Buffer): Buffer {
  const offset = 64;
  const start = (SETUP_SECTORS + 1) * 512;
  const image = Buffer.alloc(start + offset + payload.length + 100, 0xaa);
  image.writeUInt8(SETUP_SECTORS, 0x1f1);
  image.write('HdrS', 0x202, 'latin1');
  image.writeUInt32LE(offset, 0x248);
  image.writeUInt32LE(payload.length, 0x24c);
  payload.copy(image, start + offset);
  return image;
}

test('the kernel inside a bzImage is found by the boot protocol’s header and unpacked', () => {
  const kernel = Buffer.from('\x7fELF and so on'.repeat(100));
  const size = Buffer.alloc(4);
  size.writeUInt32LE(kernel.length);
  expect(extractKernel(bzImage(Buffer.concat([zstdCompressSync(kernel), size]))).equals(kernel)).toBe(true);
});

test('what is no bzImage, or compressed otherwise, is refused', () => {
  expect(() => extractKernel(Buffer.alloc(4096))).toThrow(/bzImage/);
  expect(() => extractKernel(bzImage(Buffer.from('\x1f\x8b gzip it is')))).toThrow(/zstd/);
});
