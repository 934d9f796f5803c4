/**
 * The QEMU process of a VM whose memory may be in a file meanwhile: ends it, and starts it anew, empty, to load that file.
 * There is never a second one: it is started only when nothing runs in the VM's cgroup and nobody answers at its QMP socket,
 * and with a lock that it holds as long as it lives, so that of two who try at once one is refused.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { asSeamlessError, SeamlessError } from '../../common/errors.ts';
import type { HostTransport } from '../host/transport.ts';
import type { MemoryCgroup } from './memory-cgroup.ts';
import type { Qmp } from './qmp.ts';

export interface QemuProcess {
  /** Whether a QEMU answers, or runs and does not answer yet. Throws `HOST_UNREACHABLE` when its host can't be asked. */
  isThere(): Promise<boolean>;
  /** Its QMP answers when this resolves; it waits for `migrate-incoming`. */
  start(files: { lock: string; log: string }): Promise<void>;
  /** It is gone when this resolves; fine when it was. */
  end(): Promise<void>;
  /** What is wrong when there should be one. */
  missing(): Promise<SeamlessError>;
}

export interface QemuProcessDeps {
  vm: string;
  qmp: Qmp;
  host: HostTransport;
  cgroup: MemoryCgroup;
  cgroupFolder: string;
  /** The command that becomes the VM's QEMU. */
  start: readonly string[];
}

const START_MS = 30_000;
const END_MS = 60_000;
const POLL_MS = 20;
/** In its cgroup from the first instruction on; the folder is gone after a reboot. The text is constant, values are arguments. */
const IN_CGROUP = ['sh', '-c', 'mkdir -p "$0" && echo $$ >"$0/cgroup.procs" && exec "$@"'] as const;

export function qemuProcess(deps: QemuProcessDeps): QemuProcess {
  const { vm, qmp, host, cgroup } = deps;
  const processes = () => cgroup.processes();
  const isThere = async () => {
    if ((await processes()).length > 0) return true;
    return qmp.connect().then(
      () => true,
      (error) => asSeamlessError(error).code === 'TIMEOUT', // somebody listens
    );
  };
  return {
    isThere,
    async start({ lock, log }) {
      if (await isThere()) throw new SeamlessError('HOST_UNREACHABLE', `Expected no QEMU of ${vm}, got one`);
      const once = ['flock', '--nonblock', '--no-fork', lock];
      const argv = [...IN_CGROUP, deps.cgroupFolder, ...once, ...deps.start, '-incoming', 'defer'] as const;
      const { pid } = await host.startDaemon(argv, { logFile: log });
      await answers(deps, pid, log);
    },
    async end() {
      const left = await processes();
      if (left.length === 0) return;
      // A QEMU that is ended answers, or is gone before it could.
      await qmp.execute('quit').catch((error) => {
        if (asSeamlessError(error).code !== 'HOST_UNREACHABLE') throw error;
      });
      const deadline = performance.now() + END_MS;
      while ((await processes()).length > 0) {
        if (performance.now() > deadline)
          throw new SeamlessError('TIMEOUT', `QEMU of ${vm} has not ended after ${END_MS / 1000} s`);
        await delay(POLL_MS);
      }
    },
    missing: async () =>
      new SeamlessError(
        'HOST_UNREACHABLE',
        `Expected a QEMU of ${vm} or its saved memory on ${host.name}, got neither`,
      ),
  };
}

/** Waits for its QMP. The lock may have refused it, and the QEMU that answers be another one's. */
async function answers({ vm, qmp, host }: QemuProcessDeps, pid: number, log: string): Promise<void> {
  const deadline = performance.now() + START_MS;
  for (;;) {
    const problem = await qmp.connect().then(
      () => 'another one answers',
      (error: unknown) => asSeamlessError(error).message,
    );
    const isConnected = qmp.runState === 'running';
    const runs = await isRunning(host, pid);
    if (isConnected && runs) return;
    const isLate = performance.now() > deadline;
    if (isLate) await host.run(['kill', '-9', String(pid)]).catch(() => {});
    if (!runs || isLate) {
      const said = (await host.readFile(log).catch(() => '')).trim().split('\n').slice(-3).join(' | ');
      throw new SeamlessError('HOST_UNREACHABLE', `QEMU of ${vm} did not start: ${said || problem}`, {
        details: { log },
      });
    }
    await delay(POLL_MS);
  }
}

/** One that has ended may wait for its parent. */
function isRunning(host: HostTransport, pid: number): Promise<boolean> {
  return host.readFile(`/proc/${pid}/stat`).then(
    (stat) => !/\) [ZX] /.test(stat),
    () => false,
  );
}
