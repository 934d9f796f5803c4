/** A fresh stream to journald, labelled as the one that a process had before it was dumped. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { SeamlessError } from '../../common/errors.ts';
import type { External } from '../../criu/manifest.ts';
import { JOURNAL_STDOUT } from '../gateway/externals.ts';

/** What Node keeps to itself: the handle's descriptor, and its switch between blocking and not. */
interface Handle {
  fd: number;
  setBlocking(blocking: boolean): number;
}

/** Opens the stream; it blocks on writes, as its heir expects. The caller gives it to CRIU and then closes this end. */
export async function openJournalStream(
  label: NonNullable<External['journal']>,
): Promise<{ fd: number; close(): void }> {
  // journald shuts its sending side at once; Node would take that for the end of the connection.
  const socket = connect({ path: JOURNAL_STDOUT, allowHalfOpen: true });
  await once(socket, 'connect');
  socket.pause();
  // The protocol of systemd's src/journal/journald-stream.c: one line each, the last three say where else to forward.
  const header = [label.identifier, label.unit, label.priority, label.levelPrefix ? 1 : 0, 0, 0, 0];
  socket.write(header.map((line) => `${line}\n`).join(''));
  if (socket.writableLength > 0) await once(socket, 'drain');
  const { fd } = setBlocking(socket);
  return { fd, close: () => void socket.destroy() };
}

function setBlocking(socket: Socket): Handle {
  const handle = (socket as unknown as { _handle: Handle })._handle;
  handle.setBlocking(true);
  const flags = /^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${handle.fd}`, 'latin1'))?.[1];
  const isNonBlocking = (Number.parseInt(flags ?? '0', 8) & 0o4000) !== 0;
  if (isNonBlocking)
    throw new SeamlessError('INTERNAL', 'Expected a journal stream that blocks, got one that does not');
  return handle;
}
