/** The real cloud, started for a test file and ended with it: by its process, or by the end of ours, since it ends with its input. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { SeamlessError } from '../../common/errors.ts';
import { ensureRootTree } from './root-tree.ts';

export interface CloudPlaces {
  /** URLs, Keystone’s with its version. */
  keystone: string;
  nova: string;
  aodh: string;
  amqp: string;
  imageId: string;
}

export interface Cloud extends CloudPlaces {
  /** An event for aodh’s event alarms, as Ceilometer sends it. */
  sendAlarmEvent(event: object): Promise<void>;
  close(): Promise<void>;
}

const CACHE = process.env.SEAMLESS_CACHE ?? '/var/cache/seamless';
const PROGRAMS = join(import.meta.dirname, 'cloud');
const START_MS = 400_000;

export async function startCloud(report: (line: string) => void): Promise<Cloud> {
  const tree = await ensureRootTree(CACHE, report);
  const namespaces = ['--mount', '--pid', '--ipc', '--fork', '--kill-child=SIGKILL'];
  const child = spawn('unshare', [...namespaces, 'sh', join(PROGRAMS, 'enter.sh'), tree, PROGRAMS], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const said = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  try {
    const ready = await answer<CloudPlaces>(child, said, 'ready', START_MS, report);
    return {
      ...ready,
      async sendAlarmEvent(event) {
        const sent = answer<true>(child, said, 'sent', 30_000, report);
        child.stdin?.write(`${JSON.stringify({ alarmEvent: event })}\n`);
        await sent;
      },
      close: () => end(child),
    };
  } catch (error) {
    await end(child);
    throw error;
  }
}

/** What the cloud says under `key`; its failure, its end and the deadline reject. */
function answer<T>(
  child: ChildProcess,
  said: Interface,
  key: string,
  ms: number,
  report: (line: string) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const fail = (message: string) => settle(() => reject(new SeamlessError('COMMAND_FAILED', message)));
    const onEnd = (status: number | null) => fail(`The cloud ended with ${status}`);
    const onLine = (text: string) => {
      const line = JSON.parse(text) as Record<string, unknown>;
      if (typeof line.progress === 'string') report(line.progress);
      if (line.failed !== undefined) fail(`The cloud: ${String(line.failed)}`);
      if (line[key] !== undefined) settle(() => resolve(line[key] as T));
    };
    const timer = setTimeout(() => fail(`The cloud did not say “${key}” within ${ms} ms`), ms);
    const settle = (then: () => void) => {
      clearTimeout(timer);
      said.off('line', onLine);
      child.off('exit', onEnd);
      then();
    };
    said.on('line', onLine);
    child.once('exit', onEnd);
  });
}

/** unshare kills its child with itself, and the namespace’s first process takes all others along. */
function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    child.once('exit', () => resolve());
    child.kill('SIGKILL');
  });
}
