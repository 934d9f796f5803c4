/**
 * The memory of a VM as a file of its host, and the claim beside it that says so.
 *
 *   VM.memory.partial ──finish──▶ VM.memory + VM.saved.json (the claim) ──forget──▶ VM.memory (worth nothing) ──tidy──▶ –
 *
 * While there is a claim, the file is the VM's memory and no QEMU may run the VM. It is made last, when everything else is on
 * the disk, and removed, for good, before the VM runs: memory that is older than the disk's contents would ruin its file system.
 * For the same reason the claim holds when each disk was last written: one that was written since (somebody has started the VM
 * by other means) makes the file worthless, and it is refused.
 */
import { join } from 'node:path';
import { SeamlessError } from '../../common/errors.ts';
import { type HostTransport, isMissing } from '../host/transport.ts';

export interface Claim {
  format: 1;
  vm: string;
  savedAt: string;
  /** QEMU's version, for people: one that is older may refuse the file. */
  qemu: string;
  disks: DiskStamp[];
}

export interface DiskStamp {
  path: string;
  /** Size and time of the last write, as `stat` prints them. */
  stamp: string;
}

export interface SavedState {
  readonly folder: string;
  /** Where QEMU's stream goes in and comes out. */
  readonly socket: string;
  /** Held by the QEMU that we start, for as long as it lives. */
  readonly lock: string;
  readonly log: string;
  /** Null when there is none: the VM's memory is in a QEMU, or nowhere. */
  claim(): Promise<Claim | null>;
  /** Listens at the socket, and writes what comes. */
  listen(): Promise<void>;
  /** What kept it from writing; '' when nothing did. */
  problem(): Promise<string>;
  /** Waits until all of it is on the disk, and claims it. Only for a QEMU that says it has sent everything. */
  finish(claim: Claim, signal: AbortSignal): Promise<{ bytes: number }>;
  /** Sends the file to a QEMU that listens at the socket; `IMAGE_CORRUPT` when it is not what was written. */
  load(): Promise<void>;
  /** The claim is gone when this resolves, also after a power cut. */
  forget(): Promise<void>;
  /** Removes what no claim holds. */
  tidy(): Promise<void>;
  stamps(paths: readonly string[]): Promise<DiskStamp[]>;
  /** Bytes that the folder has room for. */
  room(): Promise<number>;
}

const FINISH_MS = 600_000;
const LOAD_MS = 600_000;
/** The helper's exit status for a file that is not whole or not right. */
const CORRUPT = 3;

/** @param program path here of `build/state-file`, which is put on that host. */
export function savedState(host: HostTransport, vm: string, folder: string, program: string): SavedState {
  const named = (suffix: string) => join(folder, `${vm}.${suffix}`);
  const [partial, file, claimFile, socket] = ['memory.partial', 'memory', 'saved.json', 'memory.sock'].map(
    named,
  ) as [string, string, string, string];
  const run = async (argv: readonly string[], options: { timeoutMs?: number; input?: string } = {}) =>
    (await host.run([await host.install(program), ...argv], options)).stdout;
  return {
    folder,
    socket,
    lock: named('lock'),
    log: named('log'),
    async claim() {
      const text = await host.readFile(claimFile).catch((error) => {
        if (isMissing(error)) return null;
        throw error; // A host that can't be asked has perhaps one.
      });
      return text === null ? null : parseClaim(text, claimFile);
    },
    async listen() {
      await host.run(['mkdir', '-p', '-m', '0700', folder]);
      await run(['save', socket, partial]);
    },
    problem: () => host.readFile(`${partial}.error`).catch(() => ''),
    async finish(claim, signal) {
      const input = `${JSON.stringify(claim)}\n`;
      const argv = [await host.install(program), 'finish', partial, file, claimFile] as const;
      const said = await host.run(argv, { input, signal, timeoutMs: FINISH_MS }).catch((cause) => {
        if (!isFull(cause.message)) throw cause;
        throw new SeamlessError(
          'HOST_DISK_FULL',
          `The memory of ${vm} does not fit in ${folder}: ${cause.message}`,
          { cause },
        );
      });
      return JSON.parse(said.stdout) as { bytes: number };
    },
    async load() {
      await run(['load', socket, file], { timeoutMs: LOAD_MS }).catch((cause) => {
        if (cause.details?.exitCode !== CORRUPT) throw cause;
        throw new SeamlessError('IMAGE_CORRUPT', `The memory of ${vm} can’t be used: ${cause.message}`, {
          cause,
          details: { file },
        });
      });
    },
    forget: async () => void (await run(['forget', claimFile])),
    async tidy() {
      await host.run(['rm', '-f', partial, `${partial}.error`, file, socket]);
    },
    async stamps(paths) {
      if (paths.length === 0) return [];
      const { stdout } = await host.run(['stat', '--format=%s %.9Y %n', '--', ...paths]);
      return stdout.split('\n').flatMap((line) => {
        const [size, written, ...path] = line.split(' ');
        return path.length > 0 ? [{ path: path.join(' '), stamp: `${size} ${written}` }] : [];
      });
    },
    async room() {
      await host.run(['mkdir', '-p', '-m', '0700', folder]);
      const { stdout } = await host.run(['df', '--block-size=1', '--output=avail', folder]);
      return Number(stdout.trim().split('\n').at(-1));
    },
  };
}

/** Throws `STATE_STALE` when a disk was written after the memory had been saved. */
export function assertUnwritten(claim: Claim, now: readonly DiskStamp[]): void {
  const written = claim.disks.filter(
    ({ path, stamp }) => now.find((each) => each.path === path)?.stamp !== stamp,
  );
  if (written.length === 0) return;
  throw new SeamlessError(
    'STATE_STALE',
    `Expected the disks of ${claim.vm} as they were at ${claim.savedAt}, got ${written.map(({ path }) => path).join(', ')} written since: its saved memory would ruin them`,
    { details: { disks: written, now } },
  );
}

/** What the system says of a disk that is full. */
export function isFull(message: string): boolean {
  return /No space left on device|Disk quota exceeded/.test(message);
}

function parseClaim(text: string, path: string): Claim {
  try {
    const claim = JSON.parse(text) as Claim;
    if (claim.format === 1 && Array.isArray(claim.disks)) return claim;
  } catch {
    // told below
  }
  throw new SeamlessError(
    'IMAGE_CORRUPT',
    `Expected a claim of format 1 in ${path}, got ${text.slice(0, 80)}`,
  );
}
