/**
 * A gate stops CRIU at the last moment before its work takes effect, so that several process trees are dumped or restored all or
 * none. CRIU calls criu/gate/gate.c there, and hands no descriptor of ours on to it: hence two FIFOs by name.
 */
import { closeSync, constants, existsSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { exec } from '../common/exec.ts';

/** To be given as `actionScript` along with a gate; `npm run build` makes it. */
export const GATE_PROGRAM = join(import.meta.dirname, '../build/criu-gate');

export interface Gate {
  /** For CRIU's environment. */
  env: Record<string, string>;
  /** Of a restore: resolves when CRIU has made the first process of the tree and makes the others; at the latest with `reached`. */
  begun: Promise<void>;
  /** Resolves when CRIU waits for the verdict; never, if it fails before. */
  reached: Promise<void>;
  decide(commit: boolean): void;
  /** Closes our ends, once CRIU has ended; before that it means "undo". */
  close(): void;
}

/** Opens a gate whose FIFOs are in `folder`; they stay there for the next time. */
export async function openGate(folder: string): Promise<Gate> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const paths = ['reached', 'verdict'].map((name) => join(folder, name));
  const missing = paths.filter((path) => !existsSync(path));
  if (missing.length > 0) await exec(['mkfifo', '--mode=0600', ...missing]);
  // Opened for reading and writing, so that neither side's opening waits for the other's.
  const flags = constants.O_RDWR | constants.O_NONBLOCK;
  const [reachedFd = -1, verdictFd = -1] = paths.map((path) => openSync(path, flags));
  const reader = new Socket({ fd: reachedFd, readable: true, writable: false });
  const begun = Promise.withResolvers<void>();
  const reached = Promise.withResolvers<void>();
  createInterface({ input: reader }).on('line', (line) => {
    begun.resolve();
    if (line === 'reached') reached.resolve();
  });
  let isOpen = true;
  return {
    env: { SEAMLESS_GATE: folder },
    begun: begun.promise,
    reached: reached.promise,
    decide: (commit) => {
      if (isOpen) writeSync(verdictFd, commit ? '0\n' : '1\n');
    },
    close() {
      if (!isOpen) return;
      isOpen = false;
      reader.destroy();
      closeSync(verdictFd);
    },
  };
}
