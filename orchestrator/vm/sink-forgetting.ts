/** Destroys the sink of a VM that others have deleted. Tried until it is done: the VM will not come back for what is in it. */
import type { Log } from '../../common/log.ts';
import type { OutsideDeps } from './driver-deps.ts';

/** Milliseconds until a sink that could not be destroyed is tried again. */
const AGAIN_MS = 30_000;

export class SinkForgetting {
  readonly #outside: Pick<OutsideDeps, 'forget'>;
  readonly #log: Log;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(outside: Pick<OutsideDeps, 'forget'>, log: Log) {
    this.#outside = outside;
    this.#log = log;
  }

  /** Calls `done` when the sink and what leads to it are no more. */
  forget(sinkPort: string | null, done: () => void): void {
    this.#outside.forget(sinkPort).then(
      () => {
        if (!this.#stopped) done();
      },
      (error) => {
        this.#log.warn('gone.sinkLeft', { error });
        if (this.#stopped) return;
        this.#timer = setTimeout(() => this.forget(sinkPort, done), AGAIN_MS).unref();
      },
    );
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }
}
