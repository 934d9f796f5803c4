/**
 * Hears from a packet buffer of each connection request that it holds from now on: the trigger of a parked VM, beside
 * the switch's packet-in, and where no switch tells.
 *
 * `start` ensures the connection; one that breaks is not opened again by itself. Whoever looks for what may have been missed
 * (at a start, after a park, after a reconnection) starts it first and looks then.
 */
import type { Duplex } from 'node:stream';
import type { HostTransport } from '../host/transport.ts';
import type { HeldPacket } from '../sagas/ports.ts';

const CONNECT_TIMEOUT_MS = 5000;

export class SynWatch {
  readonly #host: HostTransport;
  readonly #path: string;
  readonly #onSyn: (packet: HeldPacket) => void;
  #stream: Duplex | null = null;

  constructor(host: HostTransport, path: string, onSyn: (packet: HeldPacket) => void) {
    this.#host = host;
    this.#path = path;
    this.#onSyn = onSyn;
  }

  /** Resolves when every connection request from now on is told; throws `HOST_UNREACHABLE` when no buffer runs. */
  async start(): Promise<void> {
    if (this.#stream && !this.#stream.destroyed) return;
    const signal = AbortSignal.timeout(CONNECT_TIMEOUT_MS);
    const stream = await this.#host.connect(this.#path, signal);
    this.#stream = stream;
    const { promise: answered, resolve, reject } = Promise.withResolvers<void>();
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    stream.on('error', reject);
    stream.on('close', () => reject(new Error('the packet buffer closed the connection')));
    let rest = '';
    stream.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk.toString()).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const { first } = JSON.parse(line) as { first?: HeldPacket | null };
        if (first) this.#onSyn(first);
        else resolve();
      }
    });
    stream.write('watch\n');
    await answered.catch((error) => {
      this.stop();
      throw error;
    });
  }

  stop(): void {
    this.#stream?.destroy();
    this.#stream = null;
  }
}
