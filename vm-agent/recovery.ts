/**
 * What the agent does at its start when it ended in the middle of something: it lets CRIU finish (a CRIU that waits at a gate
 * undoes its work once we are gone), looks at what lives, and goes on from there.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { SeamlessError } from '../common/errors.ts';
import { undoCheckpoint } from './checkpoint/checkpoint.ts';
import { endStrays } from './checkpoint/placeholders.ts';
import type { AgentContext } from './context.ts';
import { isAlive } from './processes.ts';
import { restore, runs, settle } from './restore/restore.ts';

const CRIU_TIMEOUT_MS = 60_000;
const POLL_MS = 50;

export async function recover(context: AgentContext): Promise<void> {
  const { state, images, log } = context;
  const { away } = state.read();
  endStrays(away?.placeholders ?? []);
  if (!away || away.phase === 'dumped') return;
  const { phase, imageId, placeholders } = away;
  log.warn('recovery.started', { phase, imageId });
  if (phase === 'settling') return settle(context, imageId, placeholders);
  await awaitNoCriu(images.folder(imageId), CRIU_TIMEOUT_MS);
  if (phase === 'dumping') return undoCheckpoint(context, imageId, placeholders);
  const { trees } = await images.manifest(imageId);
  const isGone = trees.every(({ processes }) => processes.every(({ pid }) => !isAlive(pid)));
  if (phase === 'committing') {
    if (isGone) return state.write({ away: { ...away, phase: 'dumped' }, images: { [imageId]: 'dumped' } });
    if (trees.every(runs)) return undoCheckpoint(context, imageId, placeholders);
  } else if (isGone) {
    // Nothing was let go: as before the restore. The caller will ask again.
    return state.write({ away: { ...away, phase: 'dumped' } });
  }
  // Some trees were let go or ended, others not: all shall run here.
  state.write({ away: { ...away, phase: 'restoring' } });
  const { settled } = await restore(context, imageId);
  await settled;
}

async function awaitNoCriu(folder: string, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (isCriuAtWork(folder)) {
    if (performance.now() > deadline)
      throw new SeamlessError('TIMEOUT', `CRIU still works on ${folder} after ${timeoutMs} ms`);
    await sleep(POLL_MS);
  }
}

function isCriuAtWork(folder: string): boolean {
  return readdirSync('/proc').some((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const argv = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0');
      return argv.includes('criu') && argv.some((argument) => argument.includes(`${folder}/`));
    } catch {
      return false;
    }
  });
}
