/**
 * The policy file of a running service: read at the start, and again when it changes. A file that is wrong then changes nothing: the old
 * policy holds, and the log says what is wrong. Its folder is watched, because editors put a new file in the old one's place.
 */
import { readFileSync, watch } from 'node:fs';
import { basename, dirname } from 'node:path';
import { asSeamlessError, SeamlessError } from '../../../common/errors.ts';
import type { Log } from '../../../common/log.ts';
import { type PolicyDocument, parsePolicy } from './document.ts';

export interface PolicyFile {
  /** The one that holds now; a new object after each change. */
  readonly current: PolicyDocument;
  /** What is wrong with the file as it lies there; null when it is the one that holds. */
  readonly problem: SeamlessError | null;
  close(): void;
}

/** An editor writes in several strokes; after the last one it is read. */
const SETTLE_MS = 100;

/** Throws `CONFIG_INVALID` when the file is wrong at the start. */
export function watchPolicy(path: string, log: Log, onChange: () => void = () => {}): PolicyFile {
  let text = readPolicy(path);
  let current = parsePolicy(text, basename(path));
  let problem: SeamlessError | null = null;
  let timer: NodeJS.Timeout | null = null;

  const reload = () => {
    timer = null;
    try {
      const changed = readPolicy(path);
      if (changed === text && problem === null) return;
      current = parsePolicy(changed, basename(path));
      text = changed;
      problem = null;
      log.info('policy.reloaded', { path });
    } catch (thrown) {
      problem = asSeamlessError(thrown);
      log.error('policy.refused', { path, message: problem.message, kept: 'the policy before' });
    }
    onChange();
  };
  const watcher = watch(dirname(path), (_event, name) => {
    if (name !== null && name !== basename(path)) return;
    if (timer) clearTimeout(timer);
    timer = setTimeout(reload, SETTLE_MS);
  });
  watcher.on('error', (error) => log.error('policy.unwatched', { path, error }));
  watcher.unref();

  return {
    get current() {
      return current;
    },
    get problem() {
      return problem;
    },
    close() {
      if (timer) clearTimeout(timer);
      watcher.close();
    },
  };
}

function readPolicy(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new SeamlessError(
      'CONFIG_INVALID',
      `Expected a policy at ${path}, got ${(cause as Error).message}`,
      { cause },
    );
  }
}
