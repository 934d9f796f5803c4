/**
 * A host elsewhere, over one kept ssh connection: commands and files by channels, Unix sockets by stream-local
 * forwarding. Everything that was under way when the connection is lost rejects with `HOST_UNREACHABLE`, and whoever
 * holds a socket sees it end; the connection itself comes back (ssh/kept-session.ts).
 *
 * On the host there is nothing of ours: sshd with its SFTP server, a POSIX shell, coreutils.
 */
import { asSeamlessError, SeamlessError } from '../../common/errors.ts';
import { forwardedSocket } from './ssh/forwarded-socket.ts';
import { parseHostKey } from './ssh/host-key.ts';
import { KeptSession } from './ssh/kept-session.ts';
import { runRemote } from './ssh/remote-command.ts';
import { RemoteFiles } from './ssh/remote-files.ts';
import { installProgram } from './ssh/remote-program.ts';
import { type SshSession, unreachable } from './ssh/session.ts';
import { Slots } from './ssh/slots.ts';
import type { HostTransport, RunOptions } from './transport.ts';

export interface SshHostOptions {
  /** For messages; the address unless told. */
  name?: string;
  address: string;
  /** 22 unless told. */
  port?: number;
  /** `root` unless told. */
  user?: string;
  /** Path of the private key, which has no passphrase. */
  keyFile: string;
  /** The host's public key as in known_hosts, or its SHA256:… fingerprint; several while it is being changed. */
  hostKey: string | readonly string[];
  /** Path of the network namespace here to connect from. */
  netns?: string;
  /** Milliseconds without a sign of life after which the connection counts as lost; 8 s unless told. */
  deadAfterMs?: number;
  onUp?: () => void;
  /** Called when the connection is lost, or can't be made, with the reason. */
  onDown?: (reason: SeamlessError) => void;
}

const DEAD_AFTER_MS = 8000;
const TIMEOUT_MS = 60_000;
/** With the file servers and what ends late commands no more than sshd's ten sessions a connection. */
const MOST_COMMANDS = 5;

/** Connects at the first use; throws `CONFIG_INVALID` for a host key that is none. */
export function sshHost(options: SshHostOptions): HostTransport {
  const { address, port = 22, user = 'root', keyFile, hostKey, netns, onUp, onDown } = options;
  const name = options.name ?? address;
  const files = new WeakMap<SshSession, RemoteFiles>();
  /** By their path here; looked for once in a connection, not on the way of each wake. */
  const installed = new Map<string, Promise<string>>();
  const commands = new Slots(MOST_COMMANDS);
  const kept = new KeptSession({
    ...{ name, address, port, user, keyFile },
    hostKeys: [hostKey].flat().map(parseHostKey),
    deadAfterMs: options.deadAfterMs ?? DEAD_AFTER_MS,
    ...(netns ? { netns } : {}),
    ...(onUp ? { onUp } : {}),
    ...(onDown ? { onDown } : {}),
    async onSession(session) {
      const sessionFiles = new RemoteFiles(session);
      files.set(session, sessionFiles);
      installed.clear();
      await sessionFiles.warm().catch(() => {}); // without SFTP a file's first use says so
    },
  });
  const filesOf = async () => files.get(await kept.session()) as RemoteFiles;
  const cant = (what: string) => (cause: Error) => {
    if (cause instanceof SeamlessError && cause.code !== 'COMMAND_FAILED') throw cause;
    throw unreachable({ name }, `can't ${what}: ${cause.message}`, cause);
  };

  async function run(argv: readonly [string, ...string[]], runOptions: RunOptions = {}) {
    const timeoutMs = runOptions.timeoutMs ?? TIMEOUT_MS;
    const over = new AbortController();
    const timer = setTimeout(() => over.abort('late'), timeoutMs);
    const aborted = () => over.abort('aborted');
    runOptions.signal?.addEventListener('abort', aborted, { once: true });
    if (runOptions.signal?.aborted) aborted();
    try {
      const session = await kept.session(over.signal);
      const giveBack = await commands.take(over.signal);
      try {
        return await runRemote(session, { argv, options: runOptions, over: over.signal, timeoutMs });
      } finally {
        giveBack();
      }
    } catch (thrown) {
      if (thrown === 'late')
        throw new SeamlessError('TIMEOUT', `${argv.join(' ')} did not get its turn on ${name}`);
      if (thrown === 'aborted') throw new SeamlessError('ABORTED', `${argv.join(' ')} was aborted`);
      throw asUnreachable(thrown);
    } finally {
      clearTimeout(timer);
      runOptions.signal?.removeEventListener('abort', aborted);
    }
  }

  /** What ssh2 throws about a channel is of the host, not of the command. */
  function asUnreachable(thrown: unknown): SeamlessError {
    if (thrown instanceof SeamlessError) return thrown;
    return unreachable({ name }, `can't run a command: ${asSeamlessError(thrown).message}`, thrown);
  }

  /** SFTP has one word for a file that is busy, a full disk and an interrupted call; a command says which. */
  async function writeByCommand(path: string, text: string): Promise<void> {
    await run(['env', 'LC_ALL=C', 'tee', '--', path], { input: text }).catch((error: SeamlessError) => {
      throw Object.assign(new Error(error.message), { code: errnoIn(String(error.details.output)) });
    });
  }

  return {
    name,
    run,
    readFile: async (path) =>
      (await filesOf()).read(path).then((content) => content.toString(), cant(`read ${path}`)),
    writeFile: async (path, text) => {
      const remote = await filesOf();
      await remote
        .write(path, Buffer.from(text))
        .catch((error) => (error.sftp === 4 ? writeByCommand(path, text) : Promise.reject(error)))
        .catch(cant(`write ${path}`));
    },
    connect: async (path, signal) =>
      forwardedSocket(await kept.session(signal), path, signal).catch(cant(`connect to ${path}`)),
    async startDaemon(argv, { logFile }) {
      const { stdout } = await run(['sh', '-c', START_DAEMON, logFile, ...argv]).catch(
        cant(`start ${argv[0]}`),
      );
      return { pid: Number(stdout) };
    },
    async install(program) {
      const known = installed.get(program);
      if (known) return known;
      const path = installProgram(program, await filesOf(), run);
      installed.set(program, path);
      return path.catch((error) => {
        installed.delete(program);
        return cant(`install ${program}`)(error);
      });
    },
    close: () => kept.close(),
  };
}

/** A session of its own, and nothing of the channel's open, which sshd would wait for. */
const START_DAEMON = `
: >>"$0" || exit 1
command -v -- "$1" >/dev/null || { echo "$1: not found" >&2; exit 127; }
setsid -- "$@" </dev/null >>"$0" 2>&1 &
echo $!`.trim();

const ERRNO: Record<string, string> = {
  'Device or resource busy': 'EBUSY',
  'Resource temporarily unavailable': 'EAGAIN',
  'Interrupted system call': 'EINTR',
  'Invalid argument': 'EINVAL',
  'No space left on device': 'ENOSPC',
  'No such process': 'ESRCH',
};

function errnoIn(output: string): string | undefined {
  return Object.entries(ERRNO).find(([words]) => output.includes(words))?.[1];
}
