/** The guest's memory, as the kernel counts it. */
import { readFileSync } from 'node:fs';

export function readMemory(): { totalBytes: number; availableBytes: number } {
  const text = readFileSync('/proc/meminfo', 'latin1');
  const bytes = (key: string) => Number(new RegExp(`^${key}:\\s*(\\d+)`, 'm').exec(text)?.[1] ?? 0) * 1024;
  return { totalBytes: bytes('MemTotal'), availableBytes: bytes('MemAvailable') };
}
