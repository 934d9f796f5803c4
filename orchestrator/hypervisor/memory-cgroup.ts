/**
 * The memory cgroup of a VM's QEMU: pushes its pages out to swap, and lets it have them again.
 *
 * v1: `memory.limit_in_bytes` is lowered in strokes, each lifted at once: lowering it is what reclaims, and a limit that
 * stays can have QEMU killed for want of memory when it faults pages in faster than others can go (seen; hence also
 * `memory.oom_control`, by which it waits instead). The kernel answers EBUSY when a round of reclaim freed too little,
 * because the pages were used a moment ago: the stroke is repeated until nothing has come off for two seconds.
 * v2: `memory.reclaim`, in the same strokes, needs no limit.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { SeamlessError } from '../../common/errors.ts';
import { type HostTransport, isMissing } from '../host/transport.ts';

export interface MemoryCgroup {
  /** Bytes that the group is charged for, page cache included. */
  usage(): Promise<number>;
  /** Reclaims down to `floorBytes`, as far as it can; ends early, without an error, when `wanted` aborts. */
  squeeze(floorBytes: number, wanted: AbortSignal): Promise<void>;
  /** No limit; safe to repeat. */
  lift(): Promise<void>;
  /** Resident bytes of the group’s processes: `Rss` of /proc/PID/smaps_rollup, shared libraries included. */
  resident(): Promise<number>;
  /** PID of the one with most resident memory: QEMU. */
  mainProcess(): Promise<number>;
  /** PIDs of its processes; none when there is no such group, as after a reboot. */
  processes(): Promise<number[]>;
}

const STROKE_BYTES = 48 * 1024 * 1024;
const BUSY_MS = 100;
const PROGRESS_BYTES = 1024 * 1024;
const STALLED_MS = 2000;
const SQUEEZE_MS = 60_000;

/**
 * @param path the cgroup’s folder, `/sys/fs/cgroup/memory/…` (v1) or `/sys/fs/cgroup/…` (v2); which of the two it is
 * is found out at the first use
 */
export function memoryCgroup(host: HostTransport, path: string): MemoryCgroup {
  let found: Promise<MemoryCgroup> | null = null;
  const cgroup = () => {
    found ??= detect(host, path).catch((error) => {
      found = null;
      throw error;
    });
    return found;
  };
  return {
    usage: async () => (await cgroup()).usage(),
    squeeze: async (floorBytes, wanted) => (await cgroup()).squeeze(floorBytes, wanted),
    lift: async () => (await cgroup()).lift(),
    resident: async () => (await cgroup()).resident(),
    mainProcess: async () => (await cgroup()).mainProcess(),
    processes: () => processesIn(host, path),
  };
}

async function detect(host: HostTransport, path: string): Promise<MemoryCgroup> {
  const has = (file: string) =>
    host.readFile(`${path}/${file}`).then(
      () => true,
      () => false,
    );
  if (await has('memory.limit_in_bytes')) return cgroupV1(host, path);
  if (await has('memory.max')) return cgroupV2(host, path);
  throw new SeamlessError(
    'HOST_UNREACHABLE',
    `Expected a memory cgroup at ${path} on ${host.name}, got no memory.limit_in_bytes and no memory.max there`,
  );
}

function cgroupV1(host: HostTransport, path: string): MemoryCgroup {
  const usage = () => readNumber(host, `${path}/memory.usage_in_bytes`);
  const write = (file: string, value: number) => host.writeFile(`${path}/${file}`, String(value));
  const noLimit = () => write('memory.limit_in_bytes', -1);
  // Newer kernels call this file deprecated: without it there is a little less safety, and no failure.
  const oomKiller = (state: 'on' | 'off') =>
    write('memory.oom_control', state === 'off' ? 1 : 0).catch(() => {});
  return {
    usage,
    ...residents(host, path),
    async squeeze(floorBytes, wanted) {
      await oomKiller('off');
      const stroke = (bytes: number) => write('memory.limit_in_bytes', bytes).finally(noLimit);
      await inStrokes(usage, stroke, floorBytes, wanted).finally(() => oomKiller('on'));
    },
    async lift() {
      await noLimit();
      await oomKiller('on');
    },
  };
}

function cgroupV2(host: HostTransport, path: string): MemoryCgroup {
  const usage = () => readNumber(host, `${path}/memory.current`);
  const reclaimTo = async (bytes: number) =>
    host.writeFile(`${path}/memory.reclaim`, String(Math.max(0, (await usage()) - bytes)));
  return {
    usage,
    ...residents(host, path),
    squeeze: (floorBytes, wanted) => inStrokes(usage, reclaimTo, floorBytes, wanted),
    lift: () => host.writeFile(`${path}/memory.high`, 'max'),
  };
}

async function inStrokes(
  usage: () => Promise<number>,
  shrinkTo: (bytes: number) => Promise<void>,
  floorBytes: number,
  wanted: AbortSignal,
): Promise<void> {
  const deadline = performance.now() + SQUEEZE_MS;
  let now = await usage();
  let progressAt = performance.now();
  while (now > floorBytes && !wanted.aborted && performance.now() < deadline) {
    await shrinkTo(Math.max(floorBytes, now - STROKE_BYTES)).catch(async (thrown) => {
      if (!isBusy(thrown)) throw thrown;
      await delay(BUSY_MS, undefined, { signal: wanted }).catch(() => {});
    });
    const before = now;
    now = await usage();
    if (now < before - PROGRESS_BYTES) progressAt = performance.now();
    // What can’t be reclaimed for so long (no swap left, pages in use) stays: the caller measures what it got.
    if (performance.now() - progressAt > STALLED_MS) return;
  }
}

/** v1 answers EBUSY, v2 EAGAIN, either EINTR. */
function isBusy(thrown: unknown): boolean {
  const cause = (thrown as { cause?: unknown })?.cause ?? thrown;
  return ['EBUSY', 'EAGAIN', 'EINTR'].includes((cause as NodeJS.ErrnoException)?.code ?? '');
}

async function processesIn(host: HostTransport, path: string): Promise<number[]> {
  const text = await host.readFile(`${path}/cgroup.procs`).catch((error) => {
    if (isMissing(error)) return '';
    throw error;
  });
  return text.split('\n').filter(Boolean).map(Number);
}

type Residents = Pick<MemoryCgroup, 'resident' | 'mainProcess' | 'processes'>;

function residents(host: HostTransport, path: string): Residents {
  const pids = () => processesIn(host, path);
  const bytesOf = async (pid: number) => {
    const rollup = await host.readFile(`/proc/${pid}/smaps_rollup`).catch(() => '');
    return { pid, bytes: Number(/^Rss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024 };
  };
  return {
    processes: pids,
    async resident() {
      const each = await Promise.all((await pids()).map(bytesOf));
      return each.reduce((sum, { bytes }) => sum + bytes, 0);
    },
    async mainProcess() {
      const all = await pids();
      const [only] = all;
      // As a rule there is one: a wake must not wait for the kernel to walk all its memory.
      if (only !== undefined && all.length === 1) return only;
      const [main] = (await Promise.all(all.map(bytesOf))).sort((a, b) => b.bytes - a.bytes);
      if (main) return main.pid;
      throw new SeamlessError(
        'HOST_UNREACHABLE',
        `Expected a process in ${path}/cgroup.procs of ${host.name}, got none`,
      );
    },
  };
}

async function readNumber(host: HostTransport, file: string): Promise<number> {
  const text = await host.readFile(file);
  const value = Number(text.trim());
  if (Number.isFinite(value)) return value;
  throw new SeamlessError('HOST_UNREACHABLE', `Expected a number in ${file}, got ${text.slice(0, 80)}`);
}
