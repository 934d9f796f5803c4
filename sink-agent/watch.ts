/**
 * Keeps the processes of one sink under a syscall filter, or frozen: there is no third.
 *
 *   free of a filter, frozen ── seize ──▶ seized, stopped ── go ──▶ watched ── trigger │ stop │ the filter's death ──▶ frozen
 *
 * A filter ends with its first trigger; `seize` starts another one.
 */
import { writeFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SeamlessError } from '../common/errors.ts';
import type { Log } from '../common/log.ts';
import type { ProcessTree } from '../criu/manifest.ts';
import { type ConnectionPlan, QUEUE } from './connections.ts';
import type { ReturnedPacket } from './returned.ts';
import { waitFrozen } from './sandbox/cgroup.ts';
import { type SyscallFilter, type SyscallFilterExit, startSyscallFilter } from './syscall-filter.ts';
import type { Trigger } from './trigger.ts';

export interface WatchOptions {
  /** The compiled filter. */
  binary: string;
  /** The cgroup of the processes, which the filter owns while it runs; it may be another one after a restore. */
  cgroup: () => string;
  /** Where the list of descriptors for the filter is written. */
  externalFile: string;
  /** Where what the profile allows is written. */
  allowFile: string;
  /** See syscall-filter.ts. */
  restAfterMs?: number;
  log: Log;
  /** Activity has been stopped; `settled` tells when all are frozen. */
  onTrigger: (trigger: Trigger) => void;
  /** The filter ended by itself; the processes are frozen. */
  onLost: (reason: string) => void;
}

const POLL_MS = 1;
const UNTRACED_MS = 10_000;

export class Watch {
  readonly #options: WatchOptions;
  #filter: SyscallFilter | null = null;
  #returned: ReturnedPacket[] = [];
  /** Resolves when the last filter has ended and its end has been seen to. */
  #settled: Promise<void> = Promise.resolve();

  constructor(options: WatchOptions) {
    this.#options = options;
  }

  get seized(): boolean {
    return this.#filter !== null;
  }

  /** Puts every process under a filter, stopped. The cgroup is frozen before and after. @param allow as restore/answers.ts writes it. */
  async seize(trees: readonly ProcessTree[], plan: ConnectionPlan, allow: string): Promise<void> {
    const { binary, cgroup, externalFile, allowFile, restAfterMs, log, onTrigger } = this.#options;
    await this.#settled;
    const ends = trees.flatMap(({ externals }) => externals.flatMap(({ descriptors }) => descriptors));
    await writeFile(externalFile, ends.map(({ pid, fd }) => `${JSON.stringify({ pid, fd })}\n`).join(''));
    await writeFile(allowFile, allow);
    const { gatedPorts, checkPort } = plan;
    // Other ports' connections are held outside until the VM can take them: one that is accepted here all the same is activity.
    const filter = await startSyscallFilter({
      binary,
      cgroup: cgroup(),
      externalFile,
      ...(allow === '' ? {} : { allowFile }),
      accept: 'trigger',
      ...(restAfterMs === undefined ? {} : { restAfterMs }),
      ...(gatedPorts.length > 0 || checkPort !== null
        ? { gate: { queue: QUEUE, ports: gatedPorts, checkPort } }
        : {}),
      log,
      onTrigger,
    });
    this.#filter = filter;
    this.#returned = [];
    this.#settled = filter.exited.then((exit) => this.#ended(filter, exit));
  }

  /** Lets the seized processes run. */
  async go(): Promise<void> {
    if (!this.#filter)
      throw new SeamlessError('AGENT_REFUSED', 'Expected the processes to be under a filter');
    await this.#filter.go();
  }

  /** Stops everything; resolves when all are frozen and untraced. Nothing to do when no filter is there. */
  async stop(): Promise<void> {
    const filter = this.#filter;
    if (!filter) return;
    this.#filter = null; // its end is no loss now
    await filter.freeze().catch((error: unknown) => {
      this.#options.log.error('filter.freeze', { error });
      this.#freezeNow();
    });
    await this.settled();
  }

  /** Resolves when the last filter is gone and everything is frozen: CRIU can take over. */
  async settled(): Promise<void> {
    await this.#settled;
    await waitFrozen(this.#options.cgroup());
  }

  /** What came here and nobody has taken, as it was at the last freeze; given once. */
  takeReturned(): ReturnedPacket[] {
    return this.#returned.splice(0);
  }

  #ended(filter: SyscallFilter, exit: SyscallFilterExit): void {
    this.#returned = exit.returned;
    if (!exit.frozen) this.#freezeNow();
    const expected = this.#filter !== filter || exit.trigger !== null;
    if (this.#filter === filter) this.#filter = null;
    if (!expected)
      this.#options.onLost(`the syscall filter ended: ${exit.errors.join('; ') || 'no reason given'}`);
  }

  /** Without waiting for anything: nothing may run unwatched. The filter's guardian does the same. */
  #freezeNow(): void {
    try {
      writeFileSync(join(this.#options.cgroup(), 'cgroup.freeze'), '1');
    } catch (error) {
      this.#options.log.error('sink.freeze', { error }); // the cgroup went with the sink
    }
  }
}

/** Waits until nothing traces `pids`: neither the filter nor the CRIU of an agent that ended. */
export async function waitUntraced(pids: () => Promise<number[]>): Promise<void> {
  const deadline = performance.now() + UNTRACED_MS;
  while (await anyTraced(await pids())) {
    if (performance.now() > deadline) {
      throw new SeamlessError('TIMEOUT', `Expected the last tracer to let go within ${UNTRACED_MS} ms`);
    }
    await delay(POLL_MS);
  }
}

async function anyTraced(pids: number[]): Promise<boolean> {
  const traced = await Promise.all(
    pids.map(async (pid) => {
      const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
      return /^TracerPid:\t[1-9]/m.test(status);
    }),
  );
  return traced.includes(true);
}
