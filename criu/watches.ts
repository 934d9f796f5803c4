/**
 * The paths that the processes of an image watch by inotify: only CRIU's image names them, since the kernel tells no more than inodes.
 * It watches by path at a restore, so the sink needs something there; and in a sink's file tree it can't turn an inode into a path by
 * itself, so it must be told where to look (`--irmap-scan-path`).
 */
import { existsSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';

/** Numbers of images/fdinfo.proto, fsnotify.proto and fh.proto: file → inotify → watch → handle → path. */
const TO_PATH = [13, 5, 7, 4] as const;
/** Two magic numbers; then entries, each after its length in four bytes. */
const HEADER_BYTES = 8;

/** @param folder of one tree's CRIU files; complete, or all but for the last step (criu/gate.ts). */
export function readWatchedPaths(folder: string): string[] {
  const path = join(folder, 'files.img');
  return existsSync(path) ? watchedPaths(readFileSync(path)) : [];
}

/** @param image content of files.img. */
export function watchedPaths(image: Buffer): string[] {
  const paths = new Set<string>();
  for (let at = HEADER_BYTES; at + 4 <= image.length; ) {
    const length = image.readUInt32LE(at);
    for (const path of nested(image.subarray(at + 4, at + 4 + length), TO_PATH)) {
      paths.add(posix.join('/', path.toString('utf8').replace(/\0$/, '')));
    }
    at += 4 + length;
  }
  return [...paths].sort();
}

/** What lies in a protobuf message under these field numbers, one inside the other. */
function nested(message: Buffer, [field, ...rest]: readonly number[]): Buffer[] {
  if (field === undefined) return [message];
  return fields(message)
    .filter(({ number }) => number === field)
    .flatMap(({ content }) => nested(content, rest));
}

/** The length-delimited fields of a protobuf message; numbers are stepped over. */
function fields(message: Buffer): { number: number; content: Buffer }[] {
  const found: { number: number; content: Buffer }[] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let factor = 1; at < message.length; factor *= 128) {
      const byte = message[at++] ?? 0;
      value += (byte & 127) * factor;
      if (byte < 128) break;
    }
    return value;
  };
  while (at < message.length) {
    const key = varint();
    const type = key % 8;
    if (type === 0) varint();
    else if (type === 1) at += 8;
    else if (type === 5) at += 4;
    else if (type === 2) {
      const length = varint();
      found.push({ number: Math.floor(key / 8), content: message.subarray(at, at + length) });
      at += length;
    } else break; // no such field in CRIU's images
  }
  return found;
}
