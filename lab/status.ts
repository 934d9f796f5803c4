/** `lab status`: what runs, and how much memory each VM has resident. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LabPlan } from './plan.ts';
import { isRunning } from './processes.ts';
import { readState } from './state.ts';

export interface LabStatus {
  phase: 'down' | 'starting' | 'up';
  runDirectory: string;
  accel?: 'kvm' | 'tcg';
  vms: {
    name: string;
    template: string;
    running: boolean;
    address: string;
    managementAddress: string;
    /** Of the QEMU process; null when it does not run. */
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
    running: isRunning(running),
  }));
  const vms = state.vms.map((vm) => {
    const qemu = processes.find(({ name, running }) => name === vm.name && running);
    return {
      name: vm.name,
      template: vm.template,
      running: qemu !== undefined,
      address: vm.production.addresses[0],
      managementAddress: vm.management.address,
      residentMiB: qemu ? statusMiB(qemu.pid, 'VmRSS') : null,
      swappedMiB: qemu ? statusMiB(qemu.pid, 'VmSwap') : null,
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

function statusMiB(pid: number, field: string): number | null {
  try {
    const line = readFileSync(join('/proc', `${pid}`, 'status'), 'utf8').match(
      new RegExp(`^${field}:\\s+(\\d+) kB`, 'm'),
    );
    return line ? Math.round(Number(line[1]) / 1024) : null;
  } catch {
    return null;
  }
}
