/**
 * Files of a host over SFTP. Its server processes are kept, so that neither reading nor writing a control file starts
 * one; there are a few of them, because each does one thing at a time, and a write that makes the kernel reclaim
 * memory can take long.
 */
import type { SFTPWrapper } from 'ssh2';
import { SeamlessError } from '../../../common/errors.ts';
import { opening, type SshSession } from './session.ts';
import { Slots } from './slots.ts';

export const MOST_FILE_SERVERS = 3;
/** Milliseconds for a file; a write that reclaims memory takes longest. */
const FILE_MS = 60_000;
const CHUNK_BYTES = 32 * 1024;
const END_OF_FILE = 1;
/** SFTP's status numbers as the system's; 4, “failure”, is all the others together. */
const CODES: Record<number, string> = { 2: 'ENOENT', 3: 'EACCES', 5: 'EINVAL', 8: 'ENOSYS' };

export class RemoteFiles {
  readonly #session: SshSession;
  readonly #slots = new Slots(MOST_FILE_SERVERS);
  readonly #idle: SFTPWrapper[] = [];

  constructor(session: SshSession) {
    this.#session = session;
  }

  /** Starts a file server, for the first use. */
  async warm(): Promise<void> {
    await this.#served(async () => {});
  }

  read(path: string): Promise<Buffer> {
    return this.#served(async (sftp, ask) => {
      const handle = await ask<Buffer>((done) => sftp.open(path, 'r', done));
      const chunks: Buffer[] = [];
      // Control files say no size: one reads until there is no more.
      for (let at = 0; ; ) {
        const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
        const bytes = await ask<number>((done) => sftp.read(handle, buffer, 0, CHUNK_BYTES, at, done)).catch(
          (error) => (error.sftp === END_OF_FILE ? 0 : Promise.reject(error)),
        );
        if (bytes === 0) break;
        chunks.push(buffer.subarray(0, bytes));
        at += bytes;
      }
      sftp.close(handle, () => {});
      return Buffer.concat(chunks);
    });
  }

  exists(path: string): Promise<boolean> {
    return this.#served(async (sftp, ask) => {
      const found = ask((done) => sftp.stat(path, done));
      return found.then(
        () => true,
        (error) => (error.code === 'ENOENT' ? false : Promise.reject(error)),
      );
    });
  }

  write(path: string, content: Buffer): Promise<void> {
    return this.#served(async (sftp, ask) => {
      const handle = await ask<Buffer>((done) => sftp.open(path, 'w', done));
      try {
        if (content.length > 0)
          await ask<void>((done) => sftp.write(handle, content, 0, content.length, 0, done as () => void));
      } finally {
        sftp.close(handle, () => {});
      }
    });
  }

  /** Gives `work` a file server of its own, and a way to wait for its answers. */
  async #served<T>(work: (sftp: SFTPWrapper, ask: Ask) => Promise<T>): Promise<T> {
    const { lost } = this.#session;
    const ended = new AbortController();
    const over = ended.signal;
    const late = () => ended.abort(new SeamlessError('TIMEOUT', `no answer in ${FILE_MS / 1000} s`));
    const timer = setTimeout(late, FILE_MS);
    const gone = () => ended.abort(lost.reason);
    lost.addEventListener('abort', gone, { once: true });
    if (lost.aborted) gone();
    let giveBack = () => {};
    try {
      giveBack = await this.#slots.take(over);
      const sftp = this.#idle.pop() ?? (await this.#open(over));
      const ask: Ask = (open) => opening(over, open).catch((error) => Promise.reject(statusError(error)));
      // One that did not answer in time is busy for who knows how long.
      return await work(sftp, ask).finally(() => (over.aborted ? sftp.end() : this.#idle.push(sftp)));
    } finally {
      clearTimeout(timer);
      lost.removeEventListener('abort', gone);
      giveBack();
    }
  }

  async #open(over: AbortSignal): Promise<SFTPWrapper> {
    const sftp = await opening<SFTPWrapper>(over, (done) => this.#session.client.sftp(done));
    const forget = () => {
      const at = this.#idle.indexOf(sftp);
      if (at >= 0) this.#idle.splice(at, 1);
    };
    sftp.on('close', forget);
    sftp.on('error', forget);
    return sftp;
  }
}

type Ask = <T>(open: (done: (error: Error | undefined, value: T) => void) => void) => Promise<T>;

function statusError(error: Error & { code?: unknown }): Error {
  if (typeof error.code !== 'number') return error;
  const { code } = error;
  return Object.assign(new Error(error.message), { sftp: code, code: CODES[code] });
}
