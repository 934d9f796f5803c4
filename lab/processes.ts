/**
 * The lab's long-running processes. Each is noted in state.json as soon as it exists, with its start time: a PID alone may be
 * somebody else's by the time the lab is taken down.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { SeamlessError } from '../common/errors.ts';

export interface RunningProcess {
  name: string;
  pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks from the machine's start to the process's. */
  startTime: string;
}

export interface StartRequest {
  name: string;
  argv: readonly [string, ...string[]];
  /** Network namespace to run in, a path; `ip netns exec` would hide the cgroups. */
  netns: string;
  log: string;
  env?: Record<string, string>;
  /** Cgroup folders to be in from the first instruction on, so that all memory is charged to them. */
  cgroups?: readonly string[];
}

const POLL_MS = 20;

/** Starts a process that outlives this one. */
export function startProcess(request: StartRequest): RunningProcess {
  const log = openSync(request.log, 'a');
  const inNamespace = ['nsenter', `--net=${request.netns}`, '--', ...request.argv];
  // Only a process can move itself before it runs; the program text is constant, values come as arguments.
  const enter = ['sh', '-c', 'echo $$ >"$0/cgroup.procs" && exec "$@"'];
  const cgroups = (request.cgroups ?? []).flatMap((cgroup) => [...enter, cgroup]);
  const [file = '', ...args] = [...cgroups, ...inNamespace];
  try {
    const child = spawn(file, args, {
      detached: true,
      stdio: ['ignore', log, log],
      cwd: '/',
      env: { ...process.env, ...request.env },
    });
    child.on('error', () => {}); // told below: a child without a PID has not started
    child.unref();
    const startTime = child.pid === undefined ? null : readStartTime(child.pid);
    if (child.pid === undefined || startTime === null)
      throw new SeamlessError('COMMAND_FAILED', `${request.name} did not start; see ${request.log}`);
    return { name: request.name, pid: child.pid, startTime };
  } finally {
    closeSync(log);
  }
}

export function isRunning({ pid, startTime }: RunningProcess): boolean {
  return readStartTime(pid) === startTime;
}

/** Ends the process: SIGTERM, and SIGKILL when it is still there after `graceMs`; 0: SIGKILL at once. */
export async function stopProcess(running: RunningProcess, graceMs: number): Promise<void> {
  for (const [signal, waitMs] of [
    ['SIGTERM', graceMs],
    ['SIGKILL', 5000],
  ] as const) {
    if (signal === 'SIGTERM' && graceMs === 0) continue;
    if (!isRunning(running)) return;
    try {
      process.kill(running.pid, signal);
    } catch {
      return; // gone in between
    }
    const deadline = performance.now() + waitMs;
    while (isRunning(running) && performance.now() < deadline) await sleep(POLL_MS);
  }
}

export interface ReadyRequest {
  running: RunningProcess;
  log: string;
  timeoutMs: number;
  signal: AbortSignal;
  probe: () => Promise<boolean> | boolean;
}

/** Waits until `probe` answers true; throws when the process ends first, the deadline passes, or `signal` aborts. */
export async function waitUntilReady({
  running,
  log,
  timeoutMs,
  signal,
  probe,
}: ReadyRequest): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await probe())) {
    signal.throwIfAborted();
    if (!isRunning(running))
      throw new SeamlessError('COMMAND_FAILED', `${running.name} ended: ${lastLines(log)}`, {
        details: { log },
      });
    if (performance.now() > deadline)
      throw new SeamlessError(
        'TIMEOUT',
        `${running.name} was not ready after ${timeoutMs / 1000} s; see ${log}`,
      );
    await sleep(POLL_MS);
  }
}

/** A zombie counts as gone: nobody waits for it but a parent that has ended or will. */
export function readStartTime(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? null : (fields[19] ?? null);
  } catch {
    return null;
  }
}

function lastLines(log: string): string {
  try {
    return readFileSync(log, 'utf8').trim().split('\n').slice(-5).join(' | ');
  } catch {
    return `no log at ${log}`;
  }
}
