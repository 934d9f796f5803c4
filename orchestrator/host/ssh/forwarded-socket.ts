/**
 * A Unix socket of a host, as a stream here: one channel that sshd connects to the socket (direct-streamlocal). It ends
 * as a local socket does: the peer's end is ours too, and a lost connection to the host is an error.
 */
import { Duplex } from 'node:stream';
import type { ClientChannel } from 'ssh2';
import { opening, type SshSession } from './session.ts';

/** Rejects when nobody listens at `path`, with `signal`'s reason, or with that of the session's loss. */
export async function forwardedSocket(
  session: SshSession,
  path: string,
  signal?: AbortSignal,
): Promise<Duplex> {
  signal?.throwIfAborted();
  const over = signal ? AbortSignal.any([session.lost, signal]) : session.lost;
  let given = false;
  const channel = await opening<ClientChannel>(over, (done) =>
    session.client.openssh_forwardOutStreamLocal(path, (error, opened) => {
      if (opened && over.aborted && !given) opened.close(); // nobody waits for it any more
      done(error, opened);
    }),
  );
  given = true;
  return new ForwardedSocket(channel, session.lost);
}

class ForwardedSocket extends Duplex {
  readonly #channel: ClientChannel;
  readonly #lost: AbortSignal;
  readonly #gone = () => this.destroy(this.#lost.reason);

  constructor(channel: ClientChannel, lost: AbortSignal) {
    super({ allowHalfOpen: false });
    this.#channel = channel;
    this.#lost = lost;
    channel.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) channel.pause();
    });
    channel.on('end', () => this.push(null));
    channel.on('close', () => {
      if (lost.aborted) this.#gone();
      else if (!this.readableEnded) this.push(null);
    });
    channel.on('error', (error: Error) => this.destroy(error));
    lost.addEventListener('abort', this.#gone, { once: true });
    if (lost.aborted) this.#gone();
  }

  override _read(): void {
    this.#channel.resume();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#channel.write(chunk, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#channel.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#lost.removeEventListener('abort', this.#gone);
    this.#channel.close();
    done(error);
  }
}
