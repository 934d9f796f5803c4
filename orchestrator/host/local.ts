/**
 * The host that this process runs on, or a network namespace of it. Commands enter the namespace by
 * `nsenter --net=`, never by `ip netns exec`, which mounts a new /sys and so hides the cgroups. Files and Unix
 * sockets belong to no network namespace and are used directly.
 */
import { spawn } from 'node:child_process';
import { open, readFile, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import type { Duplex } from 'node:stream';
import { SeamlessError } from '../../common/errors.ts';
import { exec } from '../../common/exec.ts';
import { connected } from './connected.ts';
import type { HostTransport } from './transport.ts';

export interface LocalHostOptions {
  /** For messages; `local` unless told. */
  name?: string;
  /** Path of a network namespace, such as /run/netns/hv. */
  netns?: string;
}

export function localHost(options: LocalHostOptions = {}): HostTransport {
  const name = options.name ?? 'local';
  const inside = (argv: readonly [string, ...string[]]): [string, ...string[]] =>
    options.netns ? ['nsenter', `--net=${options.netns}`, '--', ...argv] : [...argv];
  return {
    name,
    run: (argv, runOptions = {}) => exec(inside(argv), runOptions),
    readFile: (path) => readFile(path, 'utf8').catch(unreachable(name, `read ${path}`)),
    writeFile: (path, text) => writeFile(path, text).catch(unreachable(name, `write ${path}`)),
    connect: (path, signal) => connectUnix(path, signal).catch(unreachable(name, `connect to ${path}`)),
    startDaemon: (argv, { logFile }) => startDaemon(inside(argv), logFile, name),
    install: async (program) => program,
    close: async () => {},
  };
}

async function connectUnix(path: string, signal?: AbortSignal): Promise<Duplex> {
  signal?.throwIfAborted();
  return connected(createConnection({ path }), signal);
}

async function startDaemon(argv: [string, ...string[]], logFile: string, name: string) {
  const log = await open(logFile, 'a').catch(unreachable(name, `open ${logFile}`));
  try {
    const [file, ...args] = argv;
    const child = spawn(file, args, { detached: true, stdio: ['ignore', log.fd, log.fd] });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', reject);
    }).catch(unreachable(name, `start ${file}`));
    child.unref();
    return { pid: child.pid as number };
  } finally {
    await log.close();
  }
}

function unreachable(name: string, what: string): (error: Error) => never {
  return (cause) => {
    throw new SeamlessError('HOST_UNREACHABLE', `host ${name}: can't ${what}: ${cause.message}`, { cause });
  };
}
