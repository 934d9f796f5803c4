/** The guest's memory, as the kernel counts it (proc_meminfo(5)). */
import { readFileSync } from 'node:fs';
import type { GuestMemory } from './api.ts';

export function readMemory(): GuestMemory {
  const text = readFileSync('/proc/meminfo', 'latin1');
  const bytes = (key: string) => Number(new RegExp(`^${key}:\\s*(\\d+)`, 'm').exec(text)?.[1] ?? 0) * 1024;
  return {
    totalBytes: bytes('MemTotal'),
    availableBytes: bytes('MemAvailable'),
    hotCacheBytes: bytes('Active\\(file\\)'),
  };
}
