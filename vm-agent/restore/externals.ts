/** Fresh ends for what stayed in the VM, to be inherited by CRIU. */
import { closeSync, constants, existsSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { exec } from '../../common/exec.ts';
import type { External } from '../../criu/manifest.ts';
import { inheritedFd } from '../../criu/run.ts';
import { ORPHAN_FIFOS } from '../gateway/externals.ts';
import { openJournalStream } from '../systemd/journal-stream.ts';

export interface FreshEnds {
  /** For `CriuOptions.descriptors`. */
  descriptors: number[];
  /** For `RestoreRequest.inherit`. */
  inherit: { fd: number; key: string }[];
  /** Closes our copies, once CRIU has ended. */
  close(): void;
}

/** One that Node knows as a socket is closed by it. */
interface End {
  fd: number;
  close(): void;
}

export async function openFreshEnds(externals: readonly External[]): Promise<FreshEnds> {
  const ends: End[] = [];
  for (const external of externals) ends.push(await openFreshEnd(external));
  return freshEnds(externals, ends);
}

async function openFreshEnd({ kind, owner, journal }: External): Promise<End> {
  switch (kind) {
    case 'journal-stream':
      return openJournalStream(journal ?? { identifier: '', unit: owner, priority: 30, levelPrefix: true });
    case 'session-fifo':
      return plain(await openSessionFifo(owner));
    case 'device':
      return plain(openSync(owner, constants.O_RDWR));
  }
}

function plain(fd: number): End {
  return { fd, close: () => closeSync(fd) };
}

function freshEnds(externals: readonly External[], ends: readonly End[]): FreshEnds {
  return {
    descriptors: ends.map(({ fd }) => fd),
    inherit: externals.map(({ restoreKey }, index) => ({ fd: inheritedFd(index), key: restoreKey })),
    close() {
      for (const end of ends) end.close();
    },
  };
}

/** The session's own FIFO, which a placeholder has kept open; if logind has given the session up, one that nobody reads. */
async function openSessionFifo(session: string): Promise<number> {
  const path = `/run/systemd/sessions/${session}.ref`;
  if (existsSync(path)) {
    try {
      return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    } catch {
      // ENXIO: logind doesn't read it any more.
    }
  }
  return openOrphanFifo(session);
}

/** Ends that lead nowhere: for the dummy restore, in which nothing runs. */
export async function openDeadEnds(externals: readonly External[]): Promise<FreshEnds> {
  const ends: End[] = [];
  for (const { kind, owner } of externals) {
    const isFifo = kind === 'session-fifo';
    ends.push(plain(isFifo ? await openOrphanFifo(owner) : openSync('/dev/null', constants.O_RDWR)));
  }
  return freshEnds(externals, ends);
}

async function openOrphanFifo(session: string): Promise<number> {
  const path = join(ORPHAN_FIFOS, `${session}.ref`);
  mkdirSync(ORPHAN_FIFOS, { recursive: true, mode: 0o700 });
  if (!existsSync(path)) await exec(['mkfifo', '--mode=0600', path]); // CRIU compares the mode
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  } finally {
    closeSync(reader);
  }
}
