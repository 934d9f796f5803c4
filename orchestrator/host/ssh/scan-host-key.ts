/** Which key answers at an address: to be shown to somebody who can compare it, and never trusted by itself. */
import type { Duplex } from 'node:stream';
import ssh2 from 'ssh2';
import { SeamlessError } from '../../../common/errors.ts';
import { type DialOptions, dial } from './dial.ts';
import { fingerprint } from './host-key.ts';

export interface ShownHostKey {
  /** As in known_hosts: `ssh-ed25519 AAAA…` */
  hostKey: string;
  fingerprint: string;
}

const HANDSHAKE_MS = 10_000;
/** The kind that Debian's sshd has and this project pins; others when it has none. */
const KINDS = ['ssh-ed25519', 'ecdsa-sha2-nistp256', 'rsa-sha2-512', 'rsa-sha2-256'] as const;

/** Sends nothing but the beginning of a handshake; throws `HOST_UNREACHABLE`. */
export async function scanHostKey(target: DialOptions, signal: AbortSignal): Promise<ShownHostKey> {
  const place = `${target.address} port ${target.port}`;
  const failed = (cause: Error) =>
    new SeamlessError('HOST_UNREACHABLE', `${place}: no ssh server: ${cause.message}`, { cause });
  const socket = await dial(target, signal).catch((cause) => {
    throw failed(cause);
  });
  const client = new ssh2.Client();
  try {
    return await new Promise((resolve, reject) => {
      client.on('error', (error) => reject(failed(error)));
      client.on('close', () => reject(failed(new Error('the connection was closed'))));
      client.connect({
        sock: socket as Duplex & NodeJS.ReadWriteStream as never,
        username: 'nobody',
        readyTimeout: HANDSHAKE_MS,
        algorithms: { serverHostKey: [...KINDS] },
        hostVerifier: (key: Buffer) => {
          resolve({ hostKey: `${typeOf(key)} ${key.toString('base64')}`, fingerprint: fingerprint(key) });
          return false;
        },
      });
    });
  } finally {
    client.end();
    socket.destroy();
  }
}

/** A key begins with its kind, as a string with its length before it. */
function typeOf(key: Buffer): string {
  return key.toString('latin1', 4, 4 + key.readUInt32BE(0));
}
