/**
 * What of its memory a VM uses when it wakes. Recorded at the end of each wake (before the first one: after the dummy
 * restore), and read from swap at the next, all at once and while the guest already runs: a guest that faults its pages in
 * one after the other waits for the disk at each. The record lies on the hypervisor, as ranges of addresses of the VM's
 * processes (QEMU, as a rule alone); one that is out of date costs reads for nothing, no more.
 */
import { join } from 'node:path';
import type { Log, LogFields } from '../../common/log.ts';
import type { HostTransport } from '../host/transport.ts';
import type { MemoryCgroup } from '../hypervisor/memory-cgroup.ts';

export interface WorkingSet {
  /** Notes what is in memory now. With `unlessKnown` only when there is no record of these processes. Never fails. */
  record(options?: { unlessKnown: boolean }): Promise<void>;
  /** Has all of the VM's processes written to swap; a paused one's, for nobody to fault it in again. Ends early when `wanted` aborts. Never fails. */
  evict(wanted: AbortSignal): Promise<void>;
  /** The same for so many bytes at most, and only of what was not recorded. */
  evictOthers(bytes: number, wanted: AbortSignal): Promise<void>;
  /** Has the recorded pages read that are in swap. Resolves when they have been asked for. Never fails. */
  prefetch(): Promise<void>;
}

export interface WorkingSetDeps {
  vm: string;
  host: HostTransport;
  cgroup: MemoryCgroup;
  /** Path here of the compiled helper, `build/working-set`, which is put on that host. */
  program: string;
  /** Folder on that host. */
  runDir: string;
  log: Log;
}

const TIMEOUT_MS = 10_000;
/** Of a large VM, on a host whose others wait for the disk: its pieces rest for long then. */
const EVICT_MS = 300_000;

export function workingSet({ vm, host, cgroup, program, runDir, log }: WorkingSetDeps): WorkingSet {
  /** The processes of the record; a VM that has been started anew has others. */
  let recorded = new Set<number>();
  const file = join(runDir, `working-set-${vm}`);
  const run = async (action: 'record' | 'prefetch', pids: readonly number[]) => {
    const argv = [await host.install(program), action, file, ...pids.map(String)] as const;
    const { stdout } = await host.run(argv, { timeoutMs: TIMEOUT_MS });
    log.info(`workingSet.${action}`, JSON.parse(stdout) as LogFields);
  };
  const evict = async (wanted: AbortSignal, ...args: readonly string[]) => {
    const there = await host.install(program);
    const pids = (await cgroup.processes()).map(String);
    await host.run([there, ...args, ...pids], { timeoutMs: EVICT_MS, signal: wanted }).catch((error) => {
      if (!wanted.aborted) throw error;
    });
  };
  const quietly = (action: string, work: () => Promise<void>) =>
    work().catch((error) => log.warn(`workingSet.${action}Failed`, { error }));
  return {
    record: ({ unlessKnown } = { unlessKnown: false }) =>
      quietly('record', async () => {
        const pids = await cgroup.processes();
        if (unlessKnown && pids.some((pid) => recorded.has(pid))) return;
        await run('record', pids);
        recorded = new Set(pids);
      }),
    evict: (wanted) => quietly('evict', () => evict(wanted, 'evict')),
    evictOthers: (bytes, wanted) =>
      quietly('evictOthers', () => evict(wanted, 'evict-others', file, String(bytes))),
    prefetch: () =>
      quietly('prefetch', async () => {
        const pids = await cgroup.processes();
        // After a restart of this service the record of before is still there, or there is none: then it says so.
        await run('prefetch', pids);
        recorded = new Set(pids);
      }),
  };
}
