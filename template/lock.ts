/** A lock on a file that the kernel lets go of when this process ends, however it ends: a child `flock` holds it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { SeamlessError } from '../common/errors.ts';

const LONG_WAIT_MS = 1000;

/** Runs `work` while holding `file`; `waiting` is called once when somebody else has held it for a second. */
export async function withLock<T>(file: string, waiting: () => void, work: () => Promise<T>): Promise<T> {
  // The holder reads its standard input: that ends with us, and so does the lock. `echo` tells that it is held.
  const holder = spawn('flock', [file, 'sh', '-c', 'echo held; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const exited = once(holder, 'exit').catch((cause: unknown) => {
    throw new SeamlessError('PREREQUISITE_MISSING', 'flock (package util-linux) does not run', { cause });
  });
  const timer = setTimeout(waiting, LONG_WAIT_MS);
  try {
    const first = await Promise.race([
      once(holder.stdout, 'data').then(() => 'held'),
      exited.then(() => 'exited'),
    ]);
    if (first === 'exited') throw new SeamlessError('INTERNAL', `could not lock ${file}`);
    clearTimeout(timer);
    return await work();
  } finally {
    clearTimeout(timer);
    holder.stdin.end();
    await exited;
  }
}
