/** A sink's silence: while its processes are stopped, no TCP reset may leave it (sandbox/resets.ts). It begins in the background, and a dump waits for it. */

import type { Exec } from '../common/exec.ts';
import type { Manifest } from '../criu/manifest.ts';
import type { ProcessIdentity } from './sandbox/process.ts';
import { allowResets, muteResets } from './sandbox/resets.ts';

export class Silence {
  readonly #init: () => ProcessIdentity | null;
  readonly #exec: Exec;
  /** Since the processes stopped; null while resets may leave. */
  #fallen: Promise<void> | null = null;

  /** @param init a process in the sink's network namespace; null when there is none */
  constructor(init: () => ProcessIdentity | null, exec: Exec) {
    this.#init = init;
    this.#exec = exec;
  }

  /** Resolves when no reset leaves any more; the same again until it is broken or has failed. */
  fall(): Promise<void> {
    const init = this.#init();
    if (this.#fallen === null && init) {
      const falling = muteResets(init.pid, this.#exec);
      falling.catch(() => {
        if (this.#fallen === falling) this.#fallen = null; // whoever dumps tries again, and says so
      });
      this.#fallen = falling;
    }
    return this.#fallen ?? Promise.resolve();
  }

  /** Resets leave again, but for those of connections that only the VM's kernel still has. */
  async break({ lingering }: Pick<Manifest, 'lingering'>): Promise<void> {
    const init = this.#init();
    await this.#fallen?.catch(() => {});
    this.#fallen = null;
    if (init) await allowResets(init.pid, lingering);
  }

  /** Whoever ended or restored the sink's network has undone it. */
  forget(): void {
    this.#fallen = null;
  }
}
