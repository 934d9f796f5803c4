/**
 * How much of the orchestrator ten thousand VMs take that are asked every ten seconds: the service's own loop (attention.ts) with its decision
 * rounds and its journal on a disk, memory with full histories, and the delay of the event loop meanwhile. What agents and switches say is made
 * here, as text, a little later than asked; connections and TLS are not in it.
 * Run by `scripts/bench idle [--vms N] [--rounds N] [--quick] [--json]`; exits 1 when a goal is missed.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { Log } from '../common/log.ts';
import { Attention } from '../orchestrator/idle/attention.ts';
import { SAMPLE_EVERY_MS } from '../orchestrator/idle/collector.ts';
import type { VmHistory } from '../orchestrator/idle/history.ts';
import { parsePolicy } from '../orchestrator/idle/policy/document.ts';
import { METERS } from '../orchestrator/idle/signals.ts';
import { random } from '../orchestrator/idle/simulate/random.ts';
import type { Attended } from '../orchestrator/idle/watched.ts';
import { openJournal } from '../orchestrator/saga/journal.ts';

const GOALS = { roundMs: 1000, rssMiB: 400, eventLoopDelayP99Ms: 50 };
const HOUR = 3_600_000;
const BOOT = '5f0c2d1e-0000-4000-8000-000000000001';
/** Of an answer, after the question. */
const ANSWER_MS = 20;

const { values: options } = parseArgs({
  options: {
    vms: { type: 'string', default: '10000' },
    rounds: { type: 'string' },
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
const vmCount = Number(options.vms);
const rounds = Number(options.rounds ?? (options.quick ? 2 : 6));
const rng = random(1);

const folder = mkdtempSync(join(tmpdir(), 'seamless-bench-'));
const journal = openJournal(join(folder, 'journal.sqlite'));
const document = parsePolicy('version: 1\ndefaults: { forecast: wake }\n', 'policy.yaml');
const policy = document.policyFor({ name: 'vm0', host: 'hv0' });
const roundMs: number[] = [];
const roundCpuMs: number[] = [];
const log: Log = {
  debug(event, fields) {
    if (event !== 'idle.round') return;
    roundMs.push(fields?.ms as number);
    roundCpuMs.push(fields?.cpuMs as number);
  },
  info() {},
  warn: (event, fields) => process.stderr.write(`${event} ${JSON.stringify(fields)}\n`),
  error: (event, fields) => process.stderr.write(`${event} ${JSON.stringify(fields)}\n`),
  with: () => log,
};
let asked = 0;
let verdicts = 0;
const attention = new Attention({ policy: { current: document, problem: null }, journal, log });
const driver: Attended['driver'] = {
  state: { kind: 'awake' },
  park() {
    verdicts++;
    return { already: true, operation: null };
  },
  wake: () => void verdicts++,
  abortPark: () => false,
};

// Histories as full as they get: noise that never repeats, for longer than is kept, after some weeks of learning.
const warmMs = Math.ceil((1.6 * policy.windowMs) / SAMPLE_EVERY_MS) * SAMPLE_EVERY_MS;
const start = Date.now() - warmMs;
const source: Attended['source'] = {
  guest: async () => {
    asked++;
    await delay(ANSWER_MS);
    return JSON.parse(report(Date.now() - start)) as unknown;
  },
  network: async () => ({ payloadBytes: 100 }),
  hypervisor: async () => ({ dirtyRate: 0 }),
};
const noise = { values: new Float32Array(METERS.length), timers: [], leaseMs: 'none' as const };
for (let index = 0; index < vmCount; index++) {
  const vm = { name: `vm${index}`, host: `hv${index % 200}`, labels: { tier: 'front' }, driver, source };
  warm(attention.add(vm));
}

const loop = monitorEventLoopDelay({ resolution: 1 });
await turn();
loop.enable();
attention.start();
// The first round has readings but no rates yet.
while (roundMs.length < rounds + 1) await delay(200);
loop.disable();
const rssMiB = Math.round(process.memoryUsage().rss / 2 ** 20);
const stoppedAt = performance.now();
await attention.stop();
const keepMs = performance.now() - stoppedAt;
journal.close();
rmSync(folder, { recursive: true });

const result = {
  vms: vmCount,
  rounds,
  asked,
  roundMs: Math.round(median(roundMs)),
  roundMsWorst: Math.round(Math.max(...roundMs)),
  /** On a machine that others load too, the better measure. */
  roundCpuMs: Math.round(median(roundCpuMs)),
  rssMiB,
  eventLoopDelayP99Ms: Math.round(loop.percentile(99) / 1e4) / 100,
  eventLoopDelayMaxMs: Math.round(loop.max / 1e4) / 100,
  /** At the end of the service all histories go to the disk. */
  keepAllMs: Math.round(keepMs),
  verdicts,
};
const missed = Object.entries(GOALS).filter(([key, goal]) => result[key as keyof typeof GOALS] >= goal);
process.stdout.write(
  options.json
    ? `${JSON.stringify(result)}\n`
    : `${Object.entries(result)
        .map(([key, value]) => {
          const goal = GOALS[key as keyof typeof GOALS];
          return `${key.padEnd(20)} ${value}${goal === undefined ? '' : ` (goal: below ${goal})`}`;
        })
        .join('\n')}\n`,
);
for (const [key, goal] of missed) process.stderr.write(`bench: expected ${key} below ${goal}\n`);
process.exitCode = missed.length === 0 ? 0 : 1;

function warm(history: VmHistory): void {
  for (let day = 28; day > 0; day--) {
    const at = start - day * 24 * HOUR;
    if (rng.chance(0.5)) history.uses.note(at, at + HOUR);
  }
  for (let ms = 0; ms < warmMs; ms += SAMPLE_EVERY_MS) {
    noise.values.set([rng.next(), 0, rng.next() * 900, 0, 0, rng.next(), rng.next() * 900]);
    history.observe({ ...noise, startMs: start + ms, endMs: start + ms + SAMPLE_EVERY_MS }, policy);
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** What an agent sends, as text: parsing it is part of the work. */
function report(ms: number): string {
  return JSON.stringify({
    bootId: BOOT,
    epochMs: start + ms,
    uptimeMs: 1e6 + ms,
    cpus: 2,
    cpuBusyMs: 1000 + ms * 0.01 + rng.between(0, 50),
    loadMs: 1000 + ms * 0.001 + rng.between(0, 5),
    diskBytes: 1e6 + ms + Math.floor(rng.between(0, 900)),
    dirtiedBytes: 1e6 + ms + Math.floor(rng.between(0, 900)),
    sessions: [{ terminal: 'pts/0', idleMs: 1e7 + ms }],
    jobs: [],
    timers: [
      { name: 'logrotate.timer', atMs: start + 9 * HOUR },
      { name: 'apt-daily.timer', atMs: start + 5 * HOUR },
    ],
    lease: { expiresMs: start + 12 * HOUR },
  });
}
