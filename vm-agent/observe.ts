/**
 * Watches the gateway processes where they live, for a while, with the filter's own rules: what would have woken the VM, had they been in
 * a sink? They run on meanwhile; whoever needs them untraced (a scan, a checkpoint) ends the watch early.
 *
 *   idle ── observe ──▶ watching ── time is up │ stop │ the caller is gone │ the observer dies ──▶ idle
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { SeamlessError } from '../common/errors.ts';
import type { AllowedCall } from '../criu/answers.ts';
import type { Observation, ObservationReport } from './api.ts';

export interface Observer {
  observe(request: ObserveRequest): Promise<ObservationReport>;
  /** Resolves when nothing is traced any more. */
  stop(): Promise<void>;
}

export interface ObserveRequest {
  pids: readonly number[];
  seconds: number;
  /** What a profile allows already. */
  allow: readonly AllowedCall[];
  signal: AbortSignal;
}

type ObserverEvent =
  | { event: 'observing'; tasks: number }
  | ({ event: 'activity' } & Observation)
  | { event: 'done'; calls: number; ms: number }
  | { event: 'others'; count: number }
  | { event: 'error'; message: string };

const MOST_SECONDS = 3600;

/** @param program path of the compiled syscall-observer. */
export function createObserver(program: string): Observer {
  let current: { end: () => void; ended: Promise<unknown> } | null = null;
  const watch = async ({ pids, seconds, allow, signal }: ObserveRequest, folder: string) => {
    const allowFile = join(folder, 'allowed');
    await writeFile(allowFile, allow.map((line) => `${JSON.stringify(line)}\n`).join(''));
    const args = ['--pids', pids.join(','), '--seconds', String(seconds), '--allow', allowFile];
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'ignore'] });
    const exited = once(child, 'close');
    const end = () => void child.stdin.end();
    current = { end, ended: exited.catch(() => {}) };
    signal.addEventListener('abort', end, { once: true });
    child.stdin.on('error', () => {}); // it has ended; `close` tells
    const report: ObservationReport = {
      observations: [],
      processes: pids.length,
      threads: 0,
      calls: 0,
      ms: 0,
    };
    let error: string | null = null;
    createInterface({ input: child.stdout }).on('line', (line) => {
      const event = JSON.parse(line) as ObserverEvent;
      if (event.event === 'observing') report.threads = event.tasks;
      else if (event.event === 'activity') report.observations.push(observationOf(event));
      else if (event.event === 'done') Object.assign(report, { calls: event.calls, ms: event.ms });
      else if (event.event === 'error') error = event.message;
    });
    const [code, killed] = await exited;
    if (code === 0) return report;
    throw new SeamlessError(
      'AGENT_REFUSED',
      `The observer ${killed ? `was ended by ${killed}` : `exited with ${code}`}: ${error ?? 'no reason given'}`,
    );
  };
  return {
    async observe(request) {
      if (!Number.isInteger(request.seconds) || request.seconds < 1 || request.seconds > MOST_SECONDS)
        throw new SeamlessError(
          'REQUEST_INVALID',
          `Expected 1 to ${MOST_SECONDS} seconds, got ${request.seconds}`,
        );
      if (current)
        throw new SeamlessError('AGENT_REFUSED', 'The gateway processes are being observed already');
      const folder = await mkdtemp(join(tmpdir(), 'seamless-observe-'));
      try {
        return await watch(request, folder);
      } finally {
        current = null;
        await rm(folder, { recursive: true, force: true });
      }
    },
    async stop() {
      current?.end();
      await current?.ended;
    },
  };
}

function observationOf({ event: _event, ...observation }: { event: 'activity' } & Observation): Observation {
  return observation;
}
