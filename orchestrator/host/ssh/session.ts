/**
 * One ssh connection to a host, from its handshake to its end. `lost` aborts when it ends, for whatever reason, and
 * everybody who waits for something from this connection waits for that too.
 *
 * The host key is checked before the account's key is used. A wrong one, and a refused authentication, are *refusals*
 * (`details.refused`): to try again at once would not help.
 */
import { readFile } from 'node:fs/promises';
import type { Duplex } from 'node:stream';
import ssh2, { type Client, type ClientChannel } from 'ssh2';
import { SeamlessError } from '../../../common/errors.ts';
import { dial } from './dial.ts';
import { describePin, fingerprint, type HostKeyPin, hostKeyAlgorithms, isPinned } from './host-key.ts';

export interface SshTarget {
  /** The host's name, for messages. */
  name: string;
  address: string;
  port: number;
  user: string;
  /** The account's private key, in OpenSSH's or PEM format, without a passphrase. */
  keyFile: string;
  hostKeys: readonly HostKeyPin[];
  /** Path of the network namespace to connect from. */
  netns?: string;
  /** Milliseconds without a sign of life after which the host counts as lost. */
  deadAfterMs: number;
}

export interface RemoteProcess {
  channel: ClientChannel;
  /** How it ended, once the channel has closed; without a code and a signal nobody knows. */
  outcome: { code?: number | null; signal?: string };
}

export interface SshSession {
  readonly client: Client;
  /** Aborts with a `HOST_UNREACHABLE` when the connection has ended. */
  readonly lost: AbortSignal;
  /** Has the account's shell run `line`. */
  exec(line: string): Promise<RemoteProcess>;
  end(): void;
}

const HANDSHAKE_MS = 10_000;
const KEEPALIVES = 4;
/** Those that Node has in C++. */
const CIPHERS = ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com', 'aes128-ctr', 'aes256-ctr'] as const;

/** Throws `HOST_UNREACHABLE`; `details.refused` is `host key` or `authentication` when the host was reached. */
export async function openSession(target: SshTarget, signal: AbortSignal): Promise<SshSession> {
  const privateKey = await readFile(target.keyFile).catch((cause) => {
    throw unreachable(target, `can't read the key ${target.keyFile}: ${cause.message}`, cause);
  });
  const socket = await dial(target, signal).catch((cause) => {
    const { address, port } = target;
    throw unreachable(target, `no connection to ${address} port ${port}: ${cause.message}`, cause);
  });
  const client = new ssh2.Client();
  const lost = new AbortController();
  let refusal: SeamlessError | undefined;
  const fail = (reason: Error) => {
    const error = refusal ?? refused(target, reason);
    lost.abort(error);
    socket.destroy();
  };
  const aborted = () => fail(signal.reason);
  signal.addEventListener('abort', aborted, { once: true });
  client.on('error', fail);
  client.on('close', () => fail(new Error('the connection was closed')));
  try {
    await new Promise<void>((resolve, reject) => {
      lost.signal.addEventListener('abort', () => reject(lost.signal.reason), { once: true });
      if (signal.aborted) return aborted();
      client.once('ready', resolve);
      const serverHostKey = hostKeyAlgorithms(target.hostKeys);
      client.connect({
        sock: socket as Duplex & NodeJS.ReadWriteStream as never,
        username: target.user,
        privateKey,
        authHandler: ['publickey'],
        readyTimeout: HANDSHAKE_MS,
        keepaliveInterval: target.deadAfterMs / (KEEPALIVES + 1),
        keepaliveCountMax: KEEPALIVES,
        algorithms: { cipher: [...CIPHERS], ...(serverHostKey ? { serverHostKey } : {}) },
        hostVerifier: (key: Buffer) => {
          if (isPinned(key, target.hostKeys)) return true;
          refusal = wrongHostKey(target, key);
          return false;
        },
      });
    });
  } catch (thrown) {
    fail(thrown as Error); // what `connect` itself throws, such as for a key that it can't parse
    throw lost.signal.reason;
  } finally {
    signal.removeEventListener('abort', aborted);
  }
  return {
    client,
    lost: lost.signal,
    exec: (line) => opening(lost.signal, (done) => client.exec(line, withOutcome(done))),
    end() {
      lost.abort(unreachable(target, 'the connection was closed here'));
      client.end();
      setTimeout(() => socket.destroy(), 500).unref();
    },
  };
}

/** Listens from within the callback: a short command's end may have come in the same packet as its beginning. */
function withOutcome(done: (error: Error | undefined, process: RemoteProcess) => void) {
  return (error: Error | undefined, channel: ClientChannel) => {
    const outcome: RemoteProcess['outcome'] = {};
    channel?.once('exit', (code: number | null, signal?: string) => {
      Object.assign(outcome, { code }, signal ? { signal } : {});
    });
    done(error, { channel, outcome });
  };
}

/** Something that ssh2 opens and hands to a callback; rejects with the loss when the connection ends before. */
export function opening<T>(
  lost: AbortSignal,
  open: (done: (error: Error | undefined, opened: T) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const gone = () => reject(lost.reason);
    if (lost.aborted) return gone();
    lost.addEventListener('abort', gone, { once: true });
    open((error, opened) => {
      lost.removeEventListener('abort', gone);
      if (error) reject(error);
      else resolve(opened);
    });
  });
}

export function unreachable(
  { name }: { name: string },
  what: string,
  cause?: unknown,
  details: Record<string, unknown> = {},
): SeamlessError {
  return new SeamlessError('HOST_UNREACHABLE', `host ${name}: ${what}`, { cause, details });
}

function wrongHostKey(target: SshTarget, key: Buffer): SeamlessError {
  const expected = target.hostKeys.map(describePin);
  const got = fingerprint(key);
  return unreachable(
    target,
    `expected the host key ${expected.join(' or ')}, got ${got}; nothing was sent to it. ` +
      'If the key was changed on purpose, put the new one into the configuration',
    undefined,
    { refused: 'host key', expected, got },
  );
}

function refused(target: SshTarget, reason: Error): SeamlessError {
  if (reason instanceof SeamlessError) return reason;
  if ((reason as { level?: string }).level !== 'client-authentication')
    return unreachable(target, reason.message, reason);
  return unreachable(
    target,
    `${target.user}@${target.address} does not accept the key ${target.keyFile}; add its public key to authorized_keys there`,
    reason,
    { refused: 'authentication' },
  );
}
