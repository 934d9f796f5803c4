/**
 * How much of the orchestrator ten thousand VMs take that report every ten seconds: a decision round, memory with their histories, and the
 * delay of the event loop while reports come in. Run by `scripts/bench idle [--vms N] [--rounds N] [--json]`; exits 1 when a goal is missed.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Collector, SAMPLE_EVERY_MS } from '../orchestrator/idle/collector.ts';
import { BUILT_IN, type Policy } from '../orchestrator/idle/policy/policy.ts';
import { decideRound, type Watched } from '../orchestrator/idle/round.ts';
import { readReport } from '../orchestrator/idle/sample.ts';
import { METERS } from '../orchestrator/idle/signals.ts';
import { random } from '../orchestrator/idle/simulate/random.ts';

const GOALS = { roundMs: 1000, rssMiB: 400, eventLoopDelayP99Ms: 50 };
const HOUR = 3_600_000;
const POLICY: Policy = { ...BUILT_IN, forecast: 'wake' };
const BOOT = '5f0c2d1e-0000-4000-8000-000000000001';

const { values: options } = parseArgs({
  options: {
    vms: { type: 'string', default: '10000' },
    rounds: { type: 'string', default: '6' },
    json: { type: 'boolean', default: false },
  },
});
const vmCount = Number(options.vms);
const rounds = Number(options.rounds);
const rng = random(1);

interface Vm extends Watched {
  collector: Collector;
}

// Histories as full as they get: noise that never repeats, for longer than is kept, after some weeks of learning.
const warmMs = 1.6 * POLICY.windowMs;
const start = Date.now() - warmMs;
const clock = performance.now() - warmMs;
const vms: Vm[] = Array.from({ length: vmCount }, (_, index) => {
  const collector = new Collector(start);
  const { history } = collector;
  for (let day = 28; day > 0; day--) {
    if (rng.chance(0.5)) history.uses.note(start - day * 24 * HOUR, start - day * 24 * HOUR + HOUR);
  }
  history.uses.advance(start);
  return { name: `vm${index}`, history, policy: POLICY, collector };
});
const noise = { values: new Float32Array(METERS.length), timers: [], leaseMs: 'none' as const };
for (let ms = 0; ms < warmMs; ms += SAMPLE_EVERY_MS) {
  for (const { history } of vms) {
    noise.values.set([rng.next(), 0, rng.next() * 900, 0, 0, rng.next(), rng.next() * 900]);
    history.observe({ ...noise, startMs: start + ms, endMs: start + ms + SAMPLE_EVERY_MS }, POLICY);
  }
}
for (const vm of vms) enter(vm, report(warmMs), start + warmMs, clock + warmMs);

const loop = monitorEventLoopDelay({ resolution: 1 });
const roundMs: number[] = [];
const roundCpuMs: number[] = [];
let verdicts = 0;
loop.enable();
for (let round = 0; round < rounds; round++) {
  const startedAt = performance.now();
  // Reports come spread over the ten seconds, as from so many connections.
  for (let first = 0; first < vmCount; ) {
    const due = Math.min(
      vmCount,
      Math.ceil(((performance.now() - startedAt) / (SAMPLE_EVERY_MS * 0.9)) * vmCount),
    );
    for (; first < due; first++) {
      const vm = vms[first] as Vm;
      enter(vm, report(Date.now() - start), Date.now(), performance.now());
    }
    await delay(1);
  }
  const decidedAt = performance.now();
  const cpuBefore = process.cpuUsage();
  await decideRound(vms, Date.now, () => verdicts++);
  const { user, system } = process.cpuUsage(cpuBefore);
  roundMs.push(performance.now() - decidedAt);
  roundCpuMs.push((user + system) / 1000);
  await delay(Math.max(0, SAMPLE_EVERY_MS - (performance.now() - startedAt)));
}
loop.disable();

const result = {
  vms: vmCount,
  rounds,
  roundMs: Math.round(median(roundMs)),
  roundMsWorst: Math.round(Math.max(...roundMs)),
  /** On a machine that others load too, the better measure. */
  roundCpuMs: Math.round(median(roundCpuMs)),
  rssMiB: Math.round(process.memoryUsage().rss / 2 ** 20),
  eventLoopDelayP99Ms: Math.round(loop.percentile(99) / 1e4) / 100,
  eventLoopDelayMaxMs: Math.round(loop.max / 1e4) / 100,
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
    sessions: [{ user: 'root', terminal: 'pts/0', idleMs: 1e7 + ms }],
    jobs: [],
    timers: [
      { name: 'logrotate.timer', atMs: start + 9 * HOUR },
      { name: 'apt-daily.timer', atMs: start + 5 * HOUR },
    ],
    lease: { expiresMs: start + 12 * HOUR },
  });
}

function enter({ collector, policy }: Vm, text: string, atMs: number, monotonicMs: number): void {
  collector.enter(
    readReport(JSON.parse(text), { payloadBytes: 100 }, { dirtyRate: 0 }, atMs, monotonicMs),
    policy,
  );
}
