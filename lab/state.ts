/** What `up` has made so far: written before a thing is made or at once when it exists, so that `down` can clean up after any crash. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Accelerator } from './accelerator.ts';
import type { LabPlan, VmPlan } from './plan.ts';
import type { RunningProcess } from './processes.ts';

export interface LabState {
  format: 1;
  /** `starting` until everything answers; a lab left so was interrupted. */
  phase: 'starting' | 'up';
  /** `native`: the VMs are containers on the host's kernel. */
  accel: Accelerator | 'native';
  /** What the sink server makes sinks in. */
  sink?: 'namespaces' | 'docker';
  /** Name of the VM that is the sink server, when it is one. */
  sinkServer?: string;
  vms: VmPlan[];
  processes: RunningProcess[];
}

export function readState(plan: LabPlan): LabState | null {
  try {
    return JSON.parse(readFileSync(statePath(plan), 'utf8')) as LabState;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return null;
    throw error;
  }
}

export function writeState(plan: LabPlan, state: LabState): void {
  mkdirSync(plan.runDirectory, { recursive: true, mode: 0o700 });
  const path = statePath(plan);
  writeFileSync(`${path}.new`, `${JSON.stringify(state, null, 2)}\n`);
  renameSync(`${path}.new`, path);
}

function statePath(plan: LabPlan): string {
  return join(plan.runDirectory, 'state.json');
}
