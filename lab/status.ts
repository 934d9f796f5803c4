/** `lab status`: what runs, and how much memory each VM has resident. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LabPlan } from './plan.ts';
import { isRunning as isProcessRunning } from './processes.ts';
import { type LabState, readState } from './state.ts';

export interface LabStatus {
  phase: 'down' | 'starting' | 'up';
  runDirectory: string;
  accel?: LabState['accel'];
  vms: {
    name: string;
    template: string;
    running: boolean;
    address: string;
    managementAddress: string;
    /** Of the QEMU process, or of all processes of a native VM; null when it does not run. */
    residentMiB: number | null;
    swappedMiB: number | null;
  }[];
  processes: { name: string; pid: number; running: boolean }[];
}

export function labStatus(lab: LabPlan): LabStatus {
  const state = readState(lab);
  if (!state) return { phase: 'down', runDirectory: lab.runDirectory, vms: [], processes: [] };
  const processes = state.processes.map((running) => ({
    name: running.name,
    pid: running.pid,
    running: isProcessRunning(running),
  }));
  const vms = state.vms.map((vm) => {
    const isRunning = processes.some(({ name, running }) => name === vm.name && running);
    const memory = (field: string) => (isRunning ? statusMiB(vm.cgroup, field) : null);
    return {
      name: vm.name,
      template: vm.template,
      running: isRunning,
      address: vm.production.addresses[0],
      managementAddress: vm.management.address,
      residentMiB: memory('VmRSS'),
      swappedMiB: memory('VmSwap'),
    };
  });
  return { phase: state.phase, runDirectory: lab.runDirectory, accel: state.accel, vms, processes };
}

export function describeStatus(status: LabStatus): string {
  const lines = [`lab ${status.phase}${status.accel ? ` (${status.accel})` : ''}: ${status.runDirectory}`];
  for (const vm of status.vms) {
    const memory = vm.running
      ? `${vm.residentMiB} MiB resident, ${vm.swappedMiB} MiB swapped out`
      : 'not running';
    lines.push(
      `  ${vm.name} (template ${vm.template}): ${vm.address}, management ${vm.managementAddress}, ${memory}`,
    );
  }
  for (const { name, pid, running } of status.processes)
    if (!running) lines.push(`  ${name} [${pid}] has ended`);
  return lines.join('\n');
}

/** The sum over the processes of a cgroup. */
function statusMiB(cgroup: string, field: string): number {
  const wanted = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm');
  const pids = read(join(cgroup, 'cgroup.procs')).split('\n').filter(Boolean);
  const kib = pids.map((pid) => Number(wanted.exec(read(`/proc/${pid}/status`))?.[1] ?? 0));
  return Math.round(kib.reduce((sum, each) => sum + each, 0) / 1024);
}

/** Empty when it is gone. */
function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
