/**
 * CRIU's page maps (`pagemap-PID.img`): which pages of a process an image has, in the order of its pages file. Two magic numbers,
 * then messages, each behind its length: a head with the number of the pages file, and an entry per run of pages
 * (CRIU: images/pagemap.proto, Documentation/images).
 */
import { SeamlessError } from '../common/errors.ts';

export const PAGE_BYTES = 4096;
/** Flags of a run: its pages are in the parent image; they are in the pages file. */
export const IN_PARENT = 1;
export const PRESENT = 4;

export interface PageRun {
  /** Virtual address of the first page. */
  address: number;
  pages: number;
  flags: number;
}

export interface PageMap {
  /** Of `pages-N.img`. */
  pagesId: number;
  runs: PageRun[];
  /** What precedes the runs, as it was read. */
  head: Buffer;
  /** Field that counts the pages: 2, or 5 since CRIU counts them in 64 bits. */
  countField: number;
}

const MAGIC_BYTES = 8;
const [ADDRESS, COUNT, FLAGS, WIDE_COUNT] = [1, 2, 4, 5];

/** Throws `IMAGE_CORRUPT` for what it does not know. */
export function parsePageMap(file: Buffer): PageMap {
  const [, headEnd, head] = message(file, MAGIC_BYTES);
  const map: PageMap = {
    pagesId: head.get(1) ?? 0,
    runs: [],
    head: file.subarray(0, headEnd),
    countField: COUNT,
  };
  for (let at = headEnd; at < file.length; ) {
    const [, end, entry] = message(file, at);
    const wide = entry.get(WIDE_COUNT);
    if (wide !== undefined) map.countField = WIDE_COUNT;
    const address = entry.get(ADDRESS);
    const pages = wide ?? entry.get(COUNT);
    if (address === undefined || pages === undefined) throw corrupt('an address and a count', 'neither');
    map.runs.push({ address, pages, flags: entry.get(FLAGS) ?? PRESENT });
    at = end;
  }
  return map;
}

export function encodePageMap({ head, runs, countField }: PageMap): Buffer {
  const entries = runs.map(({ address, pages, flags }) => {
    // The 32-bit field is required by the format, also beside the wide one.
    const fields = [
      [ADDRESS, address],
      [COUNT, pages],
      [FLAGS, flags],
    ];
    if (countField === WIDE_COUNT) fields.push([WIDE_COUNT, pages]);
    const body = Buffer.from(fields.flatMap(([field = 0, value = 0]) => [field << 3, ...varint(value)]));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(body.length);
    return Buffer.concat([length, body]);
  });
  return Buffer.concat([head, ...entries]);
}

/** Reads the message at `at`: where its body is and ends, and its fields; all are numbers here. */
function message(file: Buffer, at: number): [start: number, end: number, fields: Map<number, number>] {
  const start = at + 4;
  const end = start + (start <= file.length ? file.readUInt32LE(at) : 0);
  if (start > file.length || end > file.length) throw corrupt('a whole message', `an end at byte ${at}`);
  const fields = new Map<number, number>();
  for (let position = start; position < end; ) {
    const tag = readVarint(file, position, end);
    if ((tag.value & 7) !== 0) throw corrupt('a number', `a field of wire type ${tag.value & 7}`);
    const value = readVarint(file, tag.next, end);
    fields.set(tag.value >> 3, value.value);
    position = value.next;
  }
  return [start, end, fields];
}

/** Numbers up to 2^53: addresses of user space have 47 bits, or 56 with five-level page tables, which are refused. */
function readVarint(file: Buffer, at: number, end: number): { value: number; next: number } {
  let value = 0;
  for (let factor = 1, next = at; next < end; factor *= 128) {
    const byte = file[next++] ?? 0;
    value += (byte & 127) * factor;
    if (byte < 128 && Number.isSafeInteger(value)) return { value, next };
  }
  throw corrupt('a number of at most 53 bits', 'a longer one');
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (let left = value; left >= 128; left = Math.floor(left / 128)) bytes.push((left % 128) | 128);
  bytes.push(Math.floor(value / 128 ** bytes.length));
  return bytes;
}

function corrupt(expected: string, got: string): SeamlessError {
  return new SeamlessError('IMAGE_CORRUPT', `Page map: expected ${expected}, got ${got}`);
}
