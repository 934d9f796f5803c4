/**
 * A TCP connection to sshd. From another network namespace through socat, started in it: a process can't have a
 * socket of a namespace that it is not in.
 */
import { spawn } from 'node:child_process';
import { connect } from 'node:net';
import { Duplex } from 'node:stream';
import { connected } from '../connected.ts';

export interface DialOptions {
  address: string;
  port: number;
  /** Path of the network namespace to connect from. */
  netns?: string;
}

/** Milliseconds for the TCP handshake: one SYN and one retransmission. */
const CONNECT_MS = 2500;

/** Rejects with the reason when nobody answers, or `signal` aborts. */
export function dial({ address, port, netns }: DialOptions, signal: AbortSignal): Promise<Duplex> {
  return netns ? dialFrom(netns, address, port, signal) : dialHere(address, port, signal);
}

function dialHere(address: string, port: number, signal: AbortSignal): Promise<Duplex> {
  const socket = connect({ host: address, port, noDelay: true });
  const late = setTimeout(() => socket.destroy(new Error(`no answer in ${CONNECT_MS} ms`)), CONNECT_MS);
  return connected(socket, signal).finally(() => clearTimeout(late));
}

/** Resolves when the server has spoken, which in ssh it does first: before that nobody knows whether anybody answers. */
function dialFrom(netns: string, address: string, port: number, signal: AbortSignal): Promise<Duplex> {
  const target = `TCP:${address.includes(':') ? `[${address}]` : address}:${port}`;
  const child = spawn(
    'nsenter',
    [`--net=${netns}`, '--', 'socat', '-', `${target},nodelay,connect-timeout=${CONNECT_MS / 1000}`],
    { stdio: ['pipe', 'pipe', 'pipe'] },
  );
  const stream = Duplex.from({ readable: child.stdout, writable: child.stdin });
  let said = '';
  child.stderr.on('data', (chunk) => {
    said = `${said}${chunk}`.slice(-500);
  });
  child.once('error', (error) => stream.destroy(error));
  child.once('close', () =>
    stream.destroy(new Error(said.trim().split('\n').pop() || 'the connection ended')),
  );
  stream.once('close', () => child.kill('SIGKILL'));
  return new Promise((resolve, reject) => {
    const aborted = () => stream.destroy(signal.reason);
    const settle = (then: () => void) => {
      signal.removeEventListener('abort', aborted);
      stream.off('readable', spoke).off('error', failed);
      then();
    };
    const spoke = () => {
      if (stream.readableLength > 0) settle(() => resolve(stream));
    };
    const failed = (error: Error) => settle(() => reject(error));
    stream.on('readable', spoke).on('error', failed);
    signal.addEventListener('abort', aborted, { once: true });
    if (signal.aborted) aborted();
  });
}
