/**
 * Starts the syscall filter (sink-agent/syscall-filter/, C) over the processes of a sink and speaks to it.
 *
 *   startSyscallFilter ─→ seized ─ go ─→ running ─ trigger | freeze | our own death ─→ exited, the cgroup frozen
 *
 * The filter owns the cgroup's freezer: it freezes before it traces and before it stops tracing, so that no process
 * of the sink ever runs unfiltered. It ends by itself after a trigger; to go on, start another one.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { SeamlessError } from '../common/errors.ts';
import type { Log } from '../common/log.ts';
import type { ReturnedPacket } from './returned.ts';
import type { Trigger } from './trigger.ts';

export interface SyscallFilterOptions {
  /** The compiled filter, `build/syscall-filter`. */
  binary: string;
  /** The cgroup (v2) that holds the gateway processes and nothing else, as a path in the file system. */
  cgroup: string;
  /** JSON lines `{"pid":…,"fd":…}` (container's numbers): descriptors whose other end stayed in the VM. */
  externalFile?: string;
  /** What the profile allows beyond the rules, as restore/answers.ts writes it. */
  allowFile?: string;
  /** Whether an accepted connection is itself activity (`trigger`) or only what is done with it (`allow`). */
  accept: 'trigger' | 'allow';
  /** Ports whose connections are accepted here, and where connect checks are answered; see connections.ts for the rules. */
  gate?: { queue: number; ports: readonly number[]; checkPort: number | null };
  /** From `go` on, after which the processes' memory is paged out; never unless told. */
  restAfterMs?: number;
  log: Log;
  /** Called once, as soon as activity has been stopped; `exited` settles when everything is frozen and let go. */
  onTrigger: (trigger: Trigger) => void;
}

export interface SyscallFilterExit {
  /** The cgroup is frozen and nothing traces it. False: see the log; start a new filter, which freezes first. */
  frozen: boolean;
  trigger: Trigger | null;
  /** Messages of the filter's errors. */
  errors: string[];
  /** What the VM must get, see returned.ts. */
  returned: ReturnedPacket[];
}

export interface SyscallFilter {
  /** Threads under the filter. */
  readonly tasks: number;
  /** Lets the processes run. Resolves when they do; `AGENT_REFUSED` when the filter has ended. */
  go(): Promise<void>;
  /** Stops everything; resolves when frozen. Harmless after a trigger. `TIMEOUT`, `AGENT_REFUSED` when it failed. */
  freeze(): Promise<void>;
  readonly exited: Promise<SyscallFilterExit>;
}

/** One line of the filter. */
type FilterEvent =
  | { event: 'seized'; tasks: number }
  | { event: 'running' }
  | { event: 'frozen' }
  | ({ event: 'trigger' } & Trigger & { args: string[]; handledUs: number })
  | { event: 'exited'; pid: number; program: string; status?: number; signal?: number }
  | ({ event: 'returned' } & ReturnedPacket)
  | { event: 'error'; step: string; message: string };

const SEIZE_DEADLINE_MS = 10_000;
const ANSWER_DEADLINE_MS = 5_000;

/** Freezes the cgroup, puts every process in it under the filter, and resolves with all of them stopped. */
export async function startSyscallFilter(options: SyscallFilterOptions): Promise<SyscallFilter> {
  const { log } = options;
  const args = ['--cgroup', options.cgroup, '--accept', options.accept];
  if (options.externalFile !== undefined) args.push('--external', options.externalFile);
  if (options.allowFile !== undefined) args.push('--allow', options.allowFile);
  if (options.restAfterMs !== undefined) args.push('--rest-after', `${options.restAfterMs}`);
  args.push(...gateArguments(options));
  const child = spawn(options.binary, args, { stdio: ['pipe', 'pipe', 'pipe'] });

  const exit: SyscallFilterExit = { frozen: false, trigger: null, errors: [], returned: [] };
  const seized = Promise.withResolvers<number>();
  const running = Promise.withResolvers<void>();
  createInterface({ input: child.stderr }).on('line', (line) => log.warn('filter.log', { line }));
  createInterface({ input: child.stdout }).on('line', (line) => {
    const event = parse(line);
    if (event.event === 'seized') seized.resolve(event.tasks);
    else if (event.event === 'running') running.resolve();
    else if (event.event === 'frozen') exit.frozen = true;
    else if (event.event === 'error') exit.errors.push(`${event.step}: ${event.message}`);
    else if (event.event === 'returned') exit.returned.push({ mac: event.mac, packet: event.packet });
    else if (event.event === 'exited') log.warn('filter.processEnded', event);
    else {
      exit.trigger = triggerOf(event);
      log.info('filter.trigger', { ...exit.trigger, args: event.args, handledUs: event.handledUs });
      options.onTrigger(exit.trigger);
    }
  });
  const exited = watchExit(child, exit, log);
  const refuse = () => {
    const problem = exit.errors.join('; ') || 'the filter has ended';
    return new SeamlessError('AGENT_REFUSED', `syscall filter of ${options.cgroup}: ${problem}`, {
      details: { ...exit },
    });
  };
  const orEnded = <T>(answer: Promise<T>) =>
    Promise.race([
      answer,
      exited.then((): never => {
        throw refuse();
      }),
    ]);

  const tasks = await within(SEIZE_DEADLINE_MS, 'seize the processes', orEnded(seized.promise)).catch(
    (error) => {
      child.stdin.end(); // the end of its input makes it freeze and go
      throw error;
    },
  );
  return {
    tasks,
    exited,
    async go() {
      child.stdin.write('{"cmd":"go"}\n');
      await within(ANSWER_DEADLINE_MS, 'let the processes run', orEnded(running.promise));
    },
    async freeze() {
      child.stdin.end('{"cmd":"freeze"}\n');
      const { frozen } = await within(ANSWER_DEADLINE_MS, 'freeze', exited);
      if (!frozen) throw refuse();
    },
  };
}

function gateArguments({ gate }: SyscallFilterOptions): string[] {
  if (!gate) return [];
  const { queue, ports, checkPort } = gate;
  return [
    ...['--gate', `${queue}`],
    ...(ports.length > 0 ? ['--gate-ports', ports.join(',')] : []),
    ...(checkPort === null ? [] : ['--check-port', `${checkPort}`]),
  ];
}

async function watchExit(
  child: ChildProcessByStdio<Writable, Readable, Readable>,
  exit: SyscallFilterExit,
  log: Log,
): Promise<SyscallFilterExit> {
  child.stdin.on('error', () => {}); // it may have ended while we wrote; `close` tells
  const [code, signal] = await once(child, 'close').catch((error: Error) => {
    exit.errors.push(error.message); // could not be started
    return [null, null];
  });
  if (code !== 0) log.error('filter.exited', { code, signal, errors: exit.errors });
  if (signal) exit.errors.push(`ended by ${signal}`);
  return exit;
}

function parse(line: string): FilterEvent {
  try {
    return JSON.parse(line) as FilterEvent;
  } catch (cause) {
    return { event: 'error', step: 'read an event', message: `expected JSON, got ${line} (${cause})` };
  }
}

function triggerOf(event: Extract<FilterEvent, { event: 'trigger' }>): Trigger {
  const { pid, tid, program, syscall, nr, detail, rule, fd, client } = event;
  return {
    pid,
    tid,
    program,
    syscall,
    nr,
    detail,
    rule,
    ...(fd ? { fd } : {}),
    ...(client ? { client } : {}),
  };
}

async function within<T>(milliseconds: number, what: string, answer: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () =>
      late.reject(
        new SeamlessError('TIMEOUT', `expected the syscall filter to ${what} within ${milliseconds} ms`),
      ),
    milliseconds,
  );
  try {
    return await Promise.race([answer, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
