/**
 * The kept connection to one host: made at the first use, and again, with back-off, whenever it is lost.
 *
 *   idle ── first use ──► connecting ──► up ──(lost)──► waiting 50 ms … 5 s ──► connecting …     close() ends it from anywhere
 *                             └─(refused: host key, authentication)─► waiting 30 s ──► connecting …
 *
 * Who calls while it is down waits, but only as long as that is likely to help: at once refused when the host itself
 * refuses us, or has been down for a while. A loss ends everything that was under way on the connection.
 *
 * A connection cut in the middle leaves its sshd process on the host, which goes on holding the sockets it opened for
 * us, and QEMU serves one QMP client at a time: so the next connection ends that process first.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { asSeamlessError, SeamlessError } from '../../../common/errors.ts';
import { openSession, type SshSession, type SshTarget, unreachable } from './session.ts';

export interface KeptSessionOptions extends SshTarget {
  /** A connection is there; throwing ends it. */
  onSession?: (session: SshSession) => Promise<void>;
  onUp?: () => void;
  /** Called at each loss, and at each failed attempt whose reason is a new one or a refusal. */
  onDown?: (reason: SeamlessError) => void;
}

const BACKOFF_FIRST_MS = 50;
const BACKOFF_MOST_MS = 5000;
const REFUSED_BACKOFF_MS = 30_000;
/** How long a call waits for a connection, and how long after a loss anybody waits. */
const PATIENCE_MS = 5000;

export class KeptSession {
  readonly #options: KeptSessionOptions;
  readonly #ended = new AbortController();
  readonly #waiting = new Set<{ resolve(session: SshSession): void; reject(error: SeamlessError): void }>();
  #current: SshSession | undefined;
  #downSince = 0;
  #lastFailure: SeamlessError | undefined;
  /** PID and start time of the process that serves, or served, our connection on the host. */
  #serving: string | undefined;
  #loop: Promise<void> | undefined;

  constructor(options: KeptSessionOptions) {
    this.#options = options;
  }

  /** The connection, made if need be; throws `HOST_UNREACHABLE` with the last failure, or `signal`'s reason. */
  async session(signal?: AbortSignal): Promise<SshSession> {
    signal?.throwIfAborted();
    if (this.#current && !this.#current.lost.aborted) return this.#current;
    if (this.#ended.signal.aborted) throw unreachable(this.#options, 'the connection was closed here');
    if (!this.#loop) {
      this.#downSince = performance.now();
      this.#loop = this.#keep();
    }
    if (this.#lastFailure && (isRefusal(this.#lastFailure) || this.#downFor() > PATIENCE_MS))
      throw this.#lastFailure;
    return this.#wait(signal);
  }

  /** Ends the connection and the attempts to make one. */
  async close(): Promise<void> {
    this.#ended.abort(unreachable(this.#options, 'the connection was closed here'));
    this.#current?.end();
    await this.#loop;
  }

  #wait(signal: AbortSignal | undefined): Promise<SshSession> {
    return new Promise((resolve, reject) => {
      const waiter = {
        resolve: (session: SshSession) => settle(() => resolve(session)),
        reject: (error: unknown) => settle(() => reject(error)),
      };
      const late = () =>
        waiter.reject(this.#lastFailure ?? unreachable(this.#options, `no connection in ${PATIENCE_MS} ms`));
      const aborted = () => waiter.reject(signal?.reason);
      const timer = setTimeout(late, PATIENCE_MS);
      const settle = (then: () => void) => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', aborted);
        this.#waiting.delete(waiter);
        then();
      };
      signal?.addEventListener('abort', aborted, { once: true });
      this.#waiting.add(waiter);
    });
  }

  async #keep(): Promise<void> {
    let backoffMs = BACKOFF_FIRST_MS;
    while (!this.#ended.signal.aborted) {
      try {
        const session = await openSession(this.#options, this.#ended.signal);
        backoffMs = BACKOFF_FIRST_MS;
        await this.#serve(session);
      } catch (thrown) {
        this.#failed(asSeamlessError(thrown));
      }
      const refused = this.#lastFailure !== undefined && isRefusal(this.#lastFailure);
      // Jitter: many connections to a host that comes back must not come all at once.
      const waitMs = (refused ? REFUSED_BACKOFF_MS : backoffMs) * (0.5 + Math.random() / 2);
      await delay(waitMs, undefined, { signal: this.#ended.signal }).catch(() => {});
      backoffMs = Math.min(backoffMs * 2, BACKOFF_MOST_MS);
    }
    for (const waiter of [...this.#waiting]) waiter.reject(this.#ended.signal.reason);
  }

  async #serve(session: SshSession): Promise<void> {
    const lost = new Promise<SeamlessError>((resolve) => {
      const gone = () => resolve(session.lost.reason);
      if (session.lost.aborted) gone();
      else session.lost.addEventListener('abort', gone, { once: true });
    });
    try {
      await this.#takeOver(session);
      await this.#options.onSession?.(session);
    } catch (error) {
      session.end();
      throw error;
    }
    if (!session.lost.aborted) {
      this.#current = session;
      this.#lastFailure = undefined;
      this.#options.onUp?.();
      for (const waiter of [...this.#waiting]) waiter.resolve(session);
    }
    const reason = await lost;
    this.#current = undefined;
    this.#downSince = performance.now();
    this.#failed(reason);
  }

  /** Ends the process of a connection that was cut, and notes that of this one. */
  async #takeOver(session: SshSession): Promise<void> {
    const [pid, startTime] = this.#serving?.split(' ') ?? [];
    const end = pid
      ? `[ "$(cut -d' ' -f22 /proc/${pid}/stat 2>/dev/null)" != ${startTime} ] || kill ${pid}; `
      : '';
    const { channel } = await session.exec(`${end}exec cut -d' ' -f1,22 /proc/$PPID/stat`);
    const said = await new Promise<string>((resolve, reject) => {
      let text = '';
      channel.on('data', (chunk: Buffer) => {
        text += chunk;
      });
      channel.stderr.resume();
      channel.on('close', () => resolve(text));
      session.lost.addEventListener('abort', () => reject(session.lost.reason), { once: true });
    });
    this.#serving = /^(\d+ \d+)$/m.exec(said)?.[1];
  }

  #failed(failure: SeamlessError): void {
    const news = failure.message !== this.#lastFailure?.message;
    this.#lastFailure = failure;
    if (this.#ended.signal.aborted) return;
    if (news || isRefusal(failure)) this.#options.onDown?.(failure);
    if (isRefusal(failure)) for (const waiter of [...this.#waiting]) waiter.reject(failure);
  }

  #downFor(): number {
    return performance.now() - this.#downSince;
  }
}

function isRefusal({ details }: SeamlessError): boolean {
  return typeof details.refused === 'string';
}
