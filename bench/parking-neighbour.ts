/**
 * What an awake VM feels while its neighbour is parked: a stand-in for a VM (a stopped process with so much dirty memory, in a
 * cgroup of its own) is squeezed out to a swap file, at full speed, at our pace (orchestrator/memory/pace.ts) and by MADV_PAGEOUT, while another
 * process answers small requests: it touches its memory and takes some new (`memory`), or writes a little and waits for
 * the disk (`commit`). The goal is a p99 of at most twice the undisturbed one.
 *
 *   scripts/bench neighbour [--quick], which keeps the figures; scripts/bench parking-neighbour [--mib 4096] [--seconds 10] [--quick] [--json]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { exec } from '../common/exec.ts';
import { localHost } from '../orchestrator/host/local.ts';
import { memoryCgroup } from '../orchestrator/hypervisor/memory-cgroup.ts';
import { paceOf } from '../orchestrator/memory/pace.ts';
import { cacheDirectory } from '../template/store.ts';

const KINDS = ['memory', 'commit'] as const;
type Kind = (typeof KINDS)[number];
interface Latency {
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
  requests: number;
}
type Latencies = Record<Kind, Latency>;
const WAYS = ['full speed', 'our pace', 'madvise'] as const;

export interface NeighbourRow extends Latency {
  how: (typeof WAYS)[number];
  kind: Kind;
  undisturbedP99Ms: number;
  ratio: number;
  seconds: number;
  leftMiB: number;
}

export interface Neighbour {
  mib: number;
  goal: number;
  rows: NeighbourRow[];
}

interface Run {
  how: NeighbourRow['how'];
  latencies: Latencies;
  seconds: number;
  leftMiB: number;
}

const MiB = 1024 * 1024;
const FLOOR_BYTES = 10 * MiB;
const GOAL = 2;
const ABORTED = 130;
const EVICT = join(import.meta.dirname, '../build/working-set');
const { values } = parseArgs({
  options: {
    mib: { type: 'string' },
    seconds: { type: 'string' },
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
const mib = Number(values.mib ?? (values.quick ? 512 : 4096));
const seconds = Number(values.seconds ?? (values.quick ? 3 : 10));
const say = (text: string) => process.stderr.write(`bench: ${text}\n`);

const folder = mkdtempSync(join(cacheDirectory(process.env), 'bench-neighbour-'));
const swap = join(folder, 'swap');
const v1 = existsSync('/sys/fs/cgroup/memory/memory.limit_in_bytes');
const cgroup = join(v1 ? '/sys/fs/cgroup/memory' : '/sys/fs/cgroup', `seamless-bench-${process.pid}`);
const undo: (() => Promise<unknown> | unknown)[] = [() => rmSync(folder, { recursive: true, force: true })];
const never = new AbortController().signal;
/** A swap file left on would keep its disk space for good. */
const tidy = async () => {
  for (let step = undo.pop(); step; step = undo.pop()) await step();
};
// The listener stays: execa's own one ends the process at once when it finds itself alone.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => void tidy().finally(() => process.exit(ABORTED)));

try {
  await addSwap();
  mkdirSync(cgroup);
  undo.push(() => removeCgroup());
  const neighbour = startNeighbour();
  await once(neighbour.lines, 'line');
  say(`undisturbed for ${seconds} s`);
  const undisturbed = await neighbour.during(() => delay(seconds * 1000));
  const runs: Run[] = [];
  for (const how of WAYS) {
    const vm = await startVm();
    say(`parking ${mib} MiB at ${how}`);
    const group = memoryCgroup(localHost(), cgroup, how === 'our pace' ? paceOf(localHost()) : undefined);
    const started = performance.now();
    const latencies = await neighbour.during(async () => {
      if (how === 'madvise') return exec([EVICT, 'evict', String(vm.pid)], { timeoutMs: 300_000 });
      // One squeeze has its own bound; a VM of this size may take several.
      for (let before = Number.POSITIVE_INFINITY, now = await group.usage(); now < before - MiB; ) {
        await group.squeeze(FLOOR_BYTES, never);
        [before, now] = [now, await group.usage()];
        if (now <= FLOOR_BYTES) break;
      }
    });
    const took = (performance.now() - started) / 1000;
    runs.push({ how, latencies, seconds: took, leftMiB: Math.round((await group.resident()) / MiB) });
    await group.lift();
    await end(vm);
  }
  print(undisturbed, runs);
} finally {
  await tidy();
}

async function addSwap(): Promise<void> {
  await exec(['fallocate', '--length', `${mib + 512}MiB`, swap]);
  await exec(['chmod', '600', swap]);
  await exec(['mkswap', '--quiet', swap]);
  // Before the machine's other swap, so that only the bench's own is used.
  await exec(['swapon', '--priority', '100', swap]);
  undo.push(() => exec(['swapoff', swap], { timeoutMs: 300_000 }));
}

async function startVm(): Promise<ChildProcess> {
  const dirty = `$| = 1; my @own; push @own, pack("L*", map { int rand 4294967296 } 1..1024) x 256 for 1..${mib}; print "ready\\n"; sleep 100000`;
  const enter = 'echo $$ >"$0/cgroup.procs" && exec perl -e "$1"';
  const vm = spawn('sh', ['-c', enter, cgroup, dirty], { stdio: ['ignore', 'pipe', 'inherit'] });
  undo.push(() => end(vm));
  await once(createInterface({ input: vm.stdout }), 'line');
  vm.kill('SIGSTOP'); // as a VM that is paused
  return vm;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

function startNeighbour() {
  const program = `
    const fs = require('node:fs');
    const own = Buffer.alloc(128 * ${MiB}, 1);
    const fd = fs.openSync(process.argv[1], 'w');
    const block = Buffer.alloc(4096, 2);
    const work = {
      memory() {
        for (let i = 0; i < 64; i++) own[Math.floor(Math.random() * own.length)] += 1;
        Buffer.allocUnsafeSlow(${MiB}).fill(3);
      },
      commit() {
        fs.writeSync(fd, block, 0, 4096, 0);
        fs.fdatasyncSync(fd);
      },
    };
    let times = { memory: [], commit: [] };
    process.stdin.on('data', () => {
      console.log(JSON.stringify(times));
      times = { memory: [], commit: [] };
    });
    console.log('ready');
    (function next() {
      for (const kind of ['memory', 'commit']) {
        const started = performance.now();
        work[kind]();
        times[kind].push(performance.now() - started);
      }
      setTimeout(next, 2);
    })();`;
  const child = spawn(process.execPath, ['-e', program, join(folder, 'file')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  undo.push(() => end(child));
  const lines = createInterface({ input: child.stdout });
  const take = async () => {
    child.stdin.write('.');
    const [line] = (await once(lines, 'line')) as [string];
    return JSON.parse(line) as Record<Kind, number[]>;
  };
  return {
    lines,
    /** The latencies of what was asked while `work` ran. */
    async during(work: () => Promise<unknown>): Promise<Latencies> {
      await take();
      await work();
      const times = await take();
      return { memory: summary(times.memory), commit: summary(times.commit) };
    },
  };
}

function summary(times: number[]): Latency {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number) => Math.round((sorted[Math.floor(sorted.length * share)] ?? 0) * 1000) / 1000;
  return {
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    maxMs: Math.round(sorted.at(-1) ?? 0),
    requests: sorted.length,
  };
}

async function removeCgroup(): Promise<void> {
  if (v1) writeFileSync(join(cgroup, 'memory.force_empty'), '0');
  for (let tries = 0; ; tries++) {
    try {
      return rmdirSync(cgroup);
    } catch (error) {
      if (tries === 100) throw error;
      await delay(50); // what has ended is still counted for a moment
    }
  }
}

function print(undisturbed: Latencies, runs: readonly Run[]): void {
  const rows: NeighbourRow[] = runs.flatMap(({ how, latencies, seconds: took, leftMiB }) =>
    KINDS.map((kind) => ({
      ...{ how, kind, ...latencies[kind], undisturbedP99Ms: undisturbed[kind].p99Ms },
      ratio: Math.round((latencies[kind].p99Ms / undisturbed[kind].p99Ms) * 100) / 100,
      ...{ seconds: Math.round(took * 10) / 10, leftMiB },
    })),
  );
  if (values.json) return console.log(JSON.stringify({ mib, goal: GOAL, rows } satisfies Neighbour));
  for (const { how, kind, p50Ms, p99Ms, maxMs, undisturbedP99Ms, ratio, seconds: took, leftMiB } of rows)
    console.log(
      `${how}, ${kind}: p50 ${p50Ms}, p99 ${p99Ms}, most ${maxMs} ms; undisturbed p99 ${undisturbedP99Ms} ms, ratio ${ratio} (goal ${GOAL}); ${took} s, ${leftMiB} MiB left`,
    );
}
