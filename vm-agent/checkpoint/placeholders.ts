/**
 * Placeholders: sleeping processes that keep systemd calm while the gateway processes are away. One stands in the cgroup of each
 * unit, so that the unit is never empty; in a service it is the main process meanwhile; in a service with namespaces of its own it
 * keeps these. They outlive a restart of the agent.
 */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { SeamlessError } from '../../common/errors.ts';
import type { ProcessTree } from '../../criu/manifest.ts';
import { startTime } from '../systemd/unit.ts';

export interface Placeholder {
  cgroup: string;
  unit: string;
  pid: number;
  startTime: number;
  /** The main process of the unit, 0 when it has none or it is not a gateway process. */
  mainPid: number;
}

export interface PlaceholderRequest {
  cgroup: string;
  unit: string;
  mainPid: number;
  /** Process whose namespaces the placeholder shall be in, and which. */
  within?: { pid: number; namespaces: ProcessTree['namespaces'] };
}

export const CGROUP_ROOT = '/sys/fs/cgroup';

export function startPlaceholder(request: PlaceholderRequest): Placeholder {
  const enter = request.within ? enterNamespaces(request.within.pid, request.within.namespaces) : [];
  const [program = 'sleep', ...args] = [...enter, 'sleep', 'infinity'];
  const child = spawn(program, args, { detached: true, cwd: '/', stdio: 'ignore' });
  child.unref();
  child.once('error', () => {}); // then it has no PID
  if (child.pid === undefined) {
    throw new SeamlessError(
      'CHECKPOINT_FAILED',
      `Expected a placeholder to start, got no process of ${program}`,
    );
  }
  const { cgroup, unit, mainPid } = request;
  writeFileSync(`${CGROUP_ROOT}${cgroup}/cgroup.procs`, String(child.pid));
  return { cgroup, unit, mainPid, pid: child.pid, startTime: startTime(child.pid) };
}

/** Ends those that still are what they were; safe to repeat. */
export function endPlaceholders(placeholders: readonly Placeholder[]): void {
  for (const { pid, startTime: started } of placeholders) {
    if (startTime(pid) === started) process.kill(pid, 'SIGKILL');
  }
}

/** The command that runs what follows in these namespaces of `pid`; empty when there are none. */
export function enterNamespaces(pid: number, namespaces: ProcessTree['namespaces']): string[] {
  if (namespaces.length === 0) return [];
  const flags = namespaces.map((kind) => (kind === 'mnt' ? '--mount' : '--uts'));
  return ['nsenter', '--target', String(pid), ...flags, '--'];
}
