/**
 * How the orchestrator reaches a host: run a command, read and write a file, connect to a Unix socket, leave a
 * daemon behind. Everything done on a hypervisor or sink server goes through this, so that the same code serves
 * the machine it runs on (`local.ts`) and another one over ssh.
 */
import type { Duplex } from 'node:stream';

export interface RunOptions {
  signal?: AbortSignal;
  /** Milliseconds after which the command is ended; 60 s unless told. */
  timeoutMs?: number;
  /** What the command reads from its standard input. */
  input?: string;
}

export interface HostTransport {
  /** The host's name, for messages. */
  readonly name: string;
  /** Runs `argv` without a shell; throws `COMMAND_FAILED`, `TIMEOUT` or `ABORTED` with the end of its output. */
  run(
    argv: readonly [string, ...string[]],
    options?: RunOptions,
  ): Promise<{ stdout: string; stderr: string }>;
  /** The file's text; throws `HOST_UNREACHABLE` when it can't be read. */
  readFile(path: string): Promise<string>;
  /** Writes `text` in one write, as control files want it; throws `HOST_UNREACHABLE` when refused. */
  writeFile(path: string, text: string): Promise<void>;
  /** Connects to a Unix stream socket; throws `HOST_UNREACHABLE` when nobody listens there. */
  connect(socketPath: string, signal?: AbortSignal): Promise<Duplex>;
  /** Starts `argv` in a session of its own, output to `logFile`: it outlives this process. */
  startDaemon(argv: readonly [string, ...string[]], options: { logFile: string }): Promise<{ pid: number }>;
  /** Puts a program of ours, a file here, on the host unless it is there; gives its path there. */
  install(program: string): Promise<string>;
  /** Ends the connection, if there is one; what is under way rejects. Daemons stay. */
  close(): Promise<void>;
}

/** Whether a `readFile` failed because there is no such file, rather than because the host can't be asked. */
export function isMissing(thrown: unknown): boolean {
  const cause = (thrown as { cause?: unknown })?.cause ?? thrown;
  return (cause as NodeJS.ErrnoException)?.code === 'ENOENT';
}
