/** Waits for a socket that is about to connect. */
import type { Socket } from 'node:net';

/** Rejects, with the socket destroyed, when it can't connect or `signal` aborts first. */
export function connected(socket: Socket, signal?: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const aborted = () => socket.destroy(signal?.reason);
    const settle = () => signal?.removeEventListener('abort', aborted);
    signal?.addEventListener('abort', aborted, { once: true });
    if (signal?.aborted) aborted();
    socket.once('error', (error) => {
      settle();
      reject(error);
    });
    socket.once('connect', () => {
      settle();
      socket.removeAllListeners('error');
      resolve(socket);
    });
  });
}
