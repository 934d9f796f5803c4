/** What fits this machine. A size that does not is left out, and said, where it would end a run of hours. */
import { readFileSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { cacheDirectory } from '../../template/store.ts';

export interface Room {
  memoryMiB: number;
  diskMiB: number;
}

/** Nothing is planned into it: the lab's own processes, the page cache, what else the machine does. */
const SPARE: Room = { memoryMiB: 2048, diskMiB: 2048 };

/** What is free now, without what is spared. */
export async function freeRoom(): Promise<Room> {
  const available = /^MemAvailable:\s+(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1];
  const { bavail, bsize } = await statfs(cacheDirectory(process.env));
  return {
    memoryMiB: Math.floor(Number(available) / 1024) - SPARE.memoryMiB,
    diskMiB: Math.floor((bavail * bsize) / 2 ** 20) - SPARE.diskMiB,
  };
}

/** Pure, but for what it says of each that is left out. */
export function fitting<T>(
  all: readonly T[],
  need: (each: T) => Room,
  room: Room,
  leftOut: (each: T, why: string) => void,
): T[] {
  return all.filter((each) => {
    const { memoryMiB, diskMiB } = need(each);
    const lacks = [
      ...(memoryMiB > room.memoryMiB ? [`${memoryMiB} MiB of memory, ${room.memoryMiB} are free`] : []),
      ...(diskMiB > room.diskMiB ? [`${diskMiB} MiB of disk, ${room.diskMiB} are free`] : []),
    ];
    if (lacks.length > 0) leftOut(each, `it needs ${lacks.join(', and ')}`);
    return lacks.length === 0;
  });
}

/** Told on standard error, as all that the bench says. */
export function sayLeftOut(what: string, why: string): void {
  process.stderr.write(`bench: left out: ${what}: ${why}\n`);
}
