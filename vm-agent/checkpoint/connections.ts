/** The TCP connections of the production network, as the sink and the switches must know them. */
import { readFileSync } from 'node:fs';
import type { Listener, TcpConnection } from '../../criu/manifest.ts';
import type { Process } from '../gateway/snapshot.ts';
import { parseEndpoint, type Socket } from '../gateway/sockets.ts';

/** By their states in /proc/net/tcp: no process has them any more, the kernel alone ends them. FIN_WAIT1 and 2, TIME_WAIT, LAST_ACK, CLOSING. */
const ENDING = ['04', '05', '06', '09', '0B'];
/** More are rarely idle, and each costs a rule; the others are treated like strangers. */
const MOST = 256;

/** The listeners, each port's first one with the clients whose connections `processes` have: a second request on one of them is no new client. */
export function withClients(
  listeners: readonly Listener[],
  processes: readonly Process[],
  sockets: ReadonlyMap<number, Socket>,
): Listener[] {
  const inodes = new Set(
    processes.flatMap(({ descriptors }) =>
      descriptors.map(({ target }) => Number(/^socket:\[(\d+)\]$/.exec(target)?.[1])),
    ),
  );
  const connected = [...inodes].flatMap((inode) => {
    const socket = sockets.get(inode);
    return socket?.kind === 'inet' && socket.protocol === 'tcp' && socket.state === 'connected'
      ? [socket]
      : [];
  });
  return listeners.map((listener, index) => {
    const { protocol, port } = listener;
    const isFirst =
      listeners.findIndex((other) => other.protocol === protocol && other.port === port) === index;
    const own = connected.filter(({ local }) => protocol === 'tcp' && isFirst && local.port === port);
    return own.length === 0
      ? listener
      : { ...listener, clients: own.slice(0, MOST).map(({ remote }) => remote) };
  });
}

/** Those that only the kernel still has. @param local bare addresses of the production network */
export function lingeringConnections(local: readonly string[], tables = readTables()): TcpConnection[] {
  return tables
    .flatMap((text) => text.split('\n').slice(1))
    .flatMap((line): TcpConnection[] => {
      const [, own = '', other = '', state = '', , , , , , inode] = line.trim().split(/\s+/);
      if (inode !== '0' || !ENDING.includes(state)) return [];
      const connection = { local: parseEndpoint(own), remote: parseEndpoint(other) };
      return local.includes(connection.local.address) ? [connection] : [];
    })
    .slice(0, MOST);
}

function readTables(): string[] {
  return ['tcp', 'tcp6'].map((file) => readFileSync(`/proc/net/${file}`, 'latin1'));
}
