/** What one sink takes of its server's memory: the VM's processes, the container's own, and the filter over them. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FREEZER_CGROUPS, type LabPlan } from '../../lab/plan.ts';
import { cgroupName } from '../../sink-agent/names.ts';

export interface SinkMemory {
  rssKiB: number;
  /** What is shared with others counts by its share: the sum over all sinks is what they take. */
  pssKiB: number;
  /** Of `pssKiB`, what is not the VM's own processes: PID 1, the holder of stand-ins, the filter. */
  ownPssKiB: number;
  processes: number;
}

export function sinkCgroupOf(lab: LabPlan, vm: string): string {
  return join(FREEZER_CGROUPS, lab.cgroup, cgroupName(vm));
}

export function sinkMemory(lab: LabPlan, vm: string): SinkMemory {
  const cgroup = sinkCgroupOf(lab, vm);
  const gateway = processesBelow(join(cgroup, 'processes'));
  const own = [...processesBelow(join(cgroup, 'helper')), ...filtersOf(join(cgroup, 'processes'))];
  const [ofGateway, ofOwn] = [sum(gateway), sum(own)];
  return {
    rssKiB: ofGateway.rss + ofOwn.rss,
    pssKiB: ofGateway.pss + ofOwn.pss,
    ownPssKiB: ofOwn.pss,
    processes: gateway.length,
  };
}

export function processesBelow(cgroup: string): number[] {
  const here = readFileSync(join(cgroup, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number);
  const folders = readdirSync(cgroup, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return [...here, ...folders.flatMap(({ name }) => processesBelow(join(cgroup, name)))];
}

/** The syscall filter of a sink and its guardian: by their arguments, since they are the agent's children. */
export function filtersOf(cgroup: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const argv = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        return argv[0]?.endsWith('syscall-filter') === true && argv.includes(cgroup);
      } catch {
        return false; // it ended just now
      }
    });
}

function sum(pids: readonly number[]): { rss: number; pss: number } {
  const total = { rss: 0, pss: 0 };
  for (const pid of pids) {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
    total.rss += Number(/^Rss:\s+(\d+)/m.exec(text)?.[1] ?? 0);
    total.pss += Number(/^Pss:\s+(\d+)/m.exec(text)?.[1] ?? 0);
  }
  return total;
}
