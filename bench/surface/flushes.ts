/** The disk's part of what an alarm waits for: a block written beside the journal and flushed, as often as there are alarms. */
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { atRate } from './requests.ts';

const BLOCK = Buffer.alloc(4096, 'x');

export interface Flushes {
  p50Ms: number;
  p99Ms: number;
  mostMs: number;
}

export async function measureFlushes(folder: string, perSecond: number, seconds: number): Promise<Flushes> {
  const path = join(folder, 'flushes');
  const file = await open(path, 'w');
  try {
    const { p50Ms, p99Ms, mostMs } = await atRate(perSecond, seconds, async () => {
      await file.write(BLOCK, 0, BLOCK.length, 0);
      await file.datasync();
    });
    return { p50Ms, p99Ms, mostMs };
  } finally {
    await file.close();
    await rm(path);
  }
}
