/** Whether processes of an image live. */
import { setTimeout as sleep } from 'node:timers/promises';
import { SeamlessError } from '../common/errors.ts';
import type { TreeProcess } from '../criu/manifest.ts';
import { readStat } from './gateway/snapshot.ts';

const POLL_MS = 5;

/** True when `pid` exists and has not ended; a zombie has. */
export function isAlive(pid: number): boolean {
  return programOf(pid) !== null;
}

/** The name of the program that `pid` runs, `null` when it has ended. */
export function programOf(pid: number): string | null {
  try {
    const { program, state } = readStat(pid);
    return state === 'Z' || state === 'X' ? null : program;
  } catch {
    return null;
  }
}

/** Waits until none of `processes` is left; throws `CHECKPOINT_FAILED` after `timeoutMs`. */
export async function awaitGone(processes: readonly TreeProcess[], timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const left = processes.filter(({ pid }) => isAlive(pid));
    if (left.length === 0) return;
    if (performance.now() > deadline) {
      const names = left.map(({ program, pid }) => `${program}[${pid}]`).join(', ');
      throw new SeamlessError('CHECKPOINT_FAILED', `Expected no dumped process to be left, got ${names}`);
    }
    await sleep(POLL_MS);
  }
}
