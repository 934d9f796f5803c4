/**
 * What a sink takes in each runtime, with everything that the runtime adds: the container's own processes, the filter, Docker's shim; and
 * what a runtime takes once, however many sinks there are. By proportional set size, so that what many share is counted once.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { exec } from '../../common/exec.ts';
import type { LabPlan } from '../../lab/plan.ts';
import type { SinkRecord } from '../../sink-agent/record.ts';
import { APPLICATIONS } from './applications.ts';
import { withBed } from './bed.ts';
import { makeFarm } from './farm.ts';
import { startProgress } from './progress.ts';
import { filtersOf, processesBelow } from './sink-memory.ts';
import { round } from './statistics.ts';

export const RUNTIMES = ['namespaces', 'docker'] as const;

export interface RuntimeRow {
  runtime: (typeof RUNTIMES)[number];
  sinks: number;
  /** MiB of a further sink: all of it, and its parts. */
  eachMiB: number;
  processesMiB: number;
  /** PID 1 and who holds stand-ins. */
  containerMiB: number;
  filterMiB: number;
  shimMiB: number;
  /** What Docker's daemons take more for it. */
  daemonsMiB: number;
  /** MiB whatever the number of sinks: Docker's daemons, and what the sink agent takes more than in namespaces. */
  onceMiB: number;
  agentMiB: number;
  /** Milliseconds to make, fill and start one, of those made three at a time. */
  makeMs: number;
}

type Parts = Record<'processes' | 'container' | 'filter' | 'shim' | 'daemons' | 'agent', number>;

const FEW = 2;
const FULL = 20;
const QUICK = 8;

export async function sinkRuntimes(quick: boolean): Promise<{ rows: RuntimeRow[] }> {
  const progress = startProgress('sink-memory', RUNTIMES.length);
  const rows: RuntimeRow[] = [];
  for (const runtime of RUNTIMES) {
    const row = await measure(runtime, quick ? QUICK : FULL);
    rows.push(row);
    progress.advance(`${runtime}: ${row.eachMiB} MiB a sink, ${row.onceMiB} MiB once`);
  }
  progress.end();
  return { rows };
}

async function measure(runtime: RuntimeRow['runtime'], sinks: number): Promise<RuntimeRow> {
  const openssh = APPLICATIONS.find(({ key }) => key === 'openssh');
  if (!openssh) throw new Error('Expected OpenSSH among the applications');
  return withBed('native', { sink: runtime }, async (bed) => {
    const agent = bed.state.processes.find(({ name }) => name === 'sink-agent')?.pid ?? -1;
    const farm = await makeFarm(bed, openssh);
    try {
      await farm.grow(FEW);
      const few = await parts(bed.lab, agent);
      const started = performance.now();
      await farm.grow(sinks);
      const makeMs = (performance.now() - started) / (sinks - FEW);
      const many = await parts(bed.lab, agent);
      const each = (part: keyof Parts) => (many[part] - few[part]) / (sinks - FEW) / 1024;
      // The agent's heap breathes by more than a sink could add to it.
      const own = ['processes', 'container', 'filter', 'shim', 'daemons'] as const;
      return {
        runtime,
        sinks,
        eachMiB: round(own.reduce((sum, part) => sum + each(part), 0)),
        processesMiB: round(each('processes')),
        containerMiB: round(each('container')),
        filterMiB: round(each('filter')),
        shimMiB: round(each('shim')),
        daemonsMiB: round(each('daemons')),
        onceMiB: round(few.daemons / 1024),
        agentMiB: round(few.agent / 1024),
        makeMs: Math.round(makeMs),
      };
    } finally {
      await farm.close();
    }
  });
}

/** KiB by part, of all sinks. */
async function parts(lab: LabPlan, agent: number): Promise<Parts> {
  const folder = join(lab.runDirectory, 'sink/sinks');
  const cgroups = readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .flatMap((name) => (JSON.parse(readFileSync(join(folder, name), 'utf8')) as SinkRecord).cgroup ?? []);
  const below = (name: string) => cgroups.flatMap((cgroup) => processesBelow(join(cgroup, name)));
  const { stdout } = await exec(['ip', 'netns', 'pids', lab.namespaces.sink]);
  const engine = stdout.split('\n').map(Number);
  const named = (...names: string[]) => engine.filter((pid) => names.includes(nameOf(pid)));
  return {
    processes: pss(below('processes')),
    container: pss(below('helper')),
    filter: pss(cgroups.flatMap((cgroup) => filtersOf(join(cgroup, 'processes')))),
    shim: pss(named('containerd-shim')),
    daemons: pss(named('dockerd', 'containerd')),
    agent: pss([agent]),
  };
}

/** The kernel keeps fifteen characters. */
function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return ''; // it ended just now
  }
}

function pss(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
    return sum + Number(/^Pss:\s+(\d+)/m.exec(text)?.[1] ?? 0);
  }, 0);
}
