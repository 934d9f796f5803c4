/**
 * An image on the wire: a header line with every file's name, size and mode, the files one after the other,
 * and a trailer line with the CRC-32 of each. TLS keeps strangers out and bits unchanged on the way; the checksums
 * catch what TLS can't: a file cut short, changed or mixed up on either disk. Nothing is compressed: on these links
 * compression costs more than it saves (see docs/performance.md once measured).
 *
 * Images lie on tmpfs, where a call never waits for a disk: files are opened, read and written synchronously, which in an
 * emulated guest takes a fraction of what a stream and a thread pool per file do.
 *
 * The receiver writes into `FOLDER.partial` and renames it when all is verified: an image exists whole or not at all.
 */
import { once } from 'node:events';
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, normalize, sep } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { crc32 } from 'node:zlib';
import { SeamlessError } from '../common/errors.ts';

interface Header {
  version: 1;
  files: { name: string; size: number; mode: number }[];
}

const BLOCK_BYTES = 1024 * 1024;
const BATCH_BYTES = 256 * 1024;
const LINE_LIMIT_BYTES = 4 * 1024 * 1024;

/** Writes the image in `folder` to `out` and ends it. Gives the bytes of its files. */
export async function writeImage(folder: string, out: Writable): Promise<{ bytes: number }> {
  const files = listFiles(folder);
  const batch = new Batch(out);
  const header: Header = { version: 1, files };
  await batch.add(Buffer.from(`${JSON.stringify(header)}\n`));
  const checksums: number[] = [];
  for (const file of files) checksums.push(await sendFile(folder, file, batch));
  await batch.flush();
  out.end(`${JSON.stringify(checksums)}\n`);
  return { bytes: files.reduce((sum, file) => sum + file.size, 0) };
}

/** Reads an image from `source` into `folder` (which must not exist yet). Throws `IMAGE_CORRUPT` and leaves nothing if it is not whole. */
export async function readImage(source: Readable, folder: string): Promise<{ bytes: number }> {
  const partial = `${folder}.partial`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true, mode: 0o700 });
  try {
    const input = new BlockReader(source);
    const header = parse<Header>(await input.line());
    if (header.version !== 1 || !Array.isArray(header.files))
      throw corrupt('a header of version 1', 'another');
    const checksums: number[] = [];
    for (const file of header.files) checksums.push(await takeFile(input, partial, file));
    const expected = parse<number[]>(await input.line());
    const wrong = header.files.find((_file, index) => expected[index] !== checksums[index]);
    if (wrong) throw corrupt(`the checksum of ${wrong.name} to hold`, 'other content');
    renameSync(partial, folder);
    return { bytes: header.files.reduce((sum, file) => sum + file.size, 0) };
  } catch (cause) {
    rmSync(partial, { recursive: true, force: true });
    throw cause instanceof SeamlessError ? cause : corrupt('a whole image', (cause as Error).message, cause);
  }
}

/** Bytes of all files of the image in `folder`. */
export function imageBytes(folder: string): number {
  return listFiles(folder).reduce((sum, { size }) => sum + size, 0);
}

function listFiles(folder: string): Header['files'] {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return paths.sort().map((path) => {
    const { size, mode } = statSync(path);
    return { name: path.slice(folder.length + 1), size, mode: mode & 0o777 };
  });
}

async function sendFile(folder: string, file: Header['files'][number], batch: Batch): Promise<number> {
  const fd = openSync(join(folder, file.name), 'r');
  try {
    let checksum = 0;
    for (let left = file.size; left > 0; ) {
      const block = Buffer.allocUnsafe(Math.min(left, BLOCK_BYTES));
      const bytes = readSync(fd, block);
      if (bytes === 0)
        throw new SeamlessError('IMAGE_CORRUPT', `Expected ${left} more bytes of ${file.name}, got its end`);
      checksum = crc32(block.subarray(0, bytes), checksum);
      left -= bytes;
      await batch.add(block.subarray(0, bytes));
    }
    return checksum;
  } finally {
    closeSync(fd);
  }
}

async function takeFile(input: BlockReader, folder: string, file: Header['files'][number]): Promise<number> {
  const safe = normalize(file.name);
  if (safe.startsWith('..') || safe.startsWith(sep)) throw corrupt('a file name within the image', file.name);
  const path = join(folder, safe);
  if (dirname(safe) !== '.') mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const fd = openSync(path, 'wx', file.mode);
  try {
    let checksum = 0;
    for (let left = file.size; left > 0; ) {
      const block = await input.block(left);
      checksum = crc32(block, checksum);
      left -= block.length;
      writeFileSync(fd, block); // all of it, however often it takes
    }
    return checksum;
  } finally {
    closeSync(fd);
  }
}

function parse<T>(line: string): T {
  try {
    return JSON.parse(line) as T;
  } catch (cause) {
    throw corrupt('a JSON line', line.slice(0, 80), cause);
  }
}

function corrupt(expected: string, got: string, cause?: unknown): SeamlessError {
  return new SeamlessError('IMAGE_CORRUPT', `Image stream: expected ${expected}, got ${got}`, { cause });
}

/** Gathers small files, so that they don't cross the network one by one. */
class Batch {
  readonly #out: Writable;
  #blocks: Buffer[] = [];
  #bytes = 0;

  constructor(out: Writable) {
    this.#out = out;
  }

  async add(block: Buffer): Promise<void> {
    this.#blocks.push(block);
    this.#bytes += block.length;
    if (this.#bytes >= BATCH_BYTES) await this.flush();
  }

  async flush(): Promise<void> {
    const all = Buffer.concat(this.#blocks);
    this.#blocks = [];
    this.#bytes = 0;
    if (!this.#out.write(all)) await once(this.#out, 'drain');
  }
}

/** Takes lines and counted blocks from one stream. */
class BlockReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(source: Readable) {
    this.#chunks = source[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  /** The next block, at most `limit` bytes and at least one. */
  async block(limit: number): Promise<Buffer> {
    if (this.#rest.length === 0) this.#rest = await this.#next();
    const block = this.#rest.subarray(0, limit);
    this.#rest = this.#rest.subarray(block.length);
    return block;
  }

  async line(): Promise<string> {
    const parts: Buffer[] = [];
    for (let bytes = 0; bytes <= LINE_LIMIT_BYTES; ) {
      if (this.#rest.length === 0) this.#rest = await this.#next();
      const end = this.#rest.indexOf(10);
      const part = end < 0 ? this.#rest : this.#rest.subarray(0, end);
      parts.push(part);
      bytes += part.length;
      this.#rest = this.#rest.subarray(end < 0 ? part.length : end + 1);
      if (end >= 0) return Buffer.concat(parts).toString('utf8');
    }
    throw corrupt(`a line of at most ${LINE_LIMIT_BYTES} bytes`, 'a longer one');
  }

  async #next(): Promise<Buffer> {
    for (;;) {
      const { value, done } = await this.#chunks.next();
      if (done) throw corrupt('more data', 'the end of the stream');
      if (value.length > 0) return value;
    }
  }
}
