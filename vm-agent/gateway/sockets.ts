/**
 * The guest's sockets by inode: addresses from /proc/net, unix peers from sock_diag by way of `ss`, since no file says
 * which socket is at the other end of a unix connection.
 */
import { readFileSync } from 'node:fs';
import { exec } from '../../common/exec.ts';

export interface InetSocket {
  kind: 'inet';
  protocol: 'tcp' | 'udp';
  state: 'listening' | 'connected';
  local: Endpoint;
  remote: Endpoint;
  /** Of a listening socket: what nobody has taken yet, connections (TCP) or bytes (UDP). */
  waiting: number;
  /** Multipath TCP, which CRIU can't dump. */
  multipath: boolean;
}

export interface UnixSocket {
  kind: 'unix';
  type: 'stream' | 'dgram' | 'seqpacket';
  listening: boolean;
  /** Where it is bound, `''` if nowhere; `@…` is an abstract name. */
  path: string;
  /** Inode of the other end, 0 without one. */
  peer: number;
  /** Of a client: it has connected, and the server has not accepted it. */
  pending: boolean;
  /** Of a listening socket: clients that have not been accepted. */
  waiting: number;
}

/** Kinds that don't move; CRIU knows raw and packet sockets, but in a sink they would see another network. */
export interface UnmovableSocket {
  kind: 'raw' | 'packet' | 'ping' | 'sctp';
}

/** CRIU carries its protocol and groups; nothing else of it matters. */
export interface NetlinkSocket {
  kind: 'netlink';
}

export type Socket = InetSocket | UnixSocket | NetlinkSocket | UnmovableSocket;

export interface Endpoint {
  address: string;
  port: number;
}

/** Files of /proc/net with one socket a line, and the column of the inode in each. */
const TABLES: readonly { file: string; kind: UnmovableSocket['kind'] | 'netlink'; column: number }[] = [
  { file: 'netlink', kind: 'netlink', column: 9 },
  { file: 'raw', kind: 'raw', column: 9 },
  { file: 'raw6', kind: 'raw', column: 9 },
  { file: 'icmp', kind: 'ping', column: 9 },
  { file: 'icmp6', kind: 'ping', column: 9 },
  { file: 'packet', kind: 'packet', column: 8 },
  { file: 'sctp/eps', kind: 'sctp', column: 7 },
  { file: 'sctp/assocs', kind: 'sctp', column: 10 },
];

export async function readSockets(): Promise<Map<number, Socket>> {
  const { stdout } = await exec([
    'ss',
    '--unix',
    '--mptcp',
    '--all',
    '--no-header',
    '--numeric',
    '--extended',
  ]);
  const sockets = new Map<number, Socket>(parseUnix(stdout));
  const multipath = parseMultipath(stdout);
  for (const protocol of ['tcp', 'udp'] as const) {
    for (const file of [protocol, `${protocol}6`]) {
      for (const [inode, socket] of parseInet(procNet(file), protocol)) {
        socket.multipath =
          protocol === 'tcp' && multipath.has(`${socket.local.address}:${socket.local.port}`);
        sockets.set(inode, socket);
      }
    }
  }
  for (const { file, kind, column } of TABLES) {
    for (const line of procNet(file).split('\n').slice(1)) {
      const inode = Number(line.trim().split(/\s+/)[column]);
      if (inode > 0) sockets.set(inode, { kind });
    }
  }
  return sockets;
}

/** Lines of /proc/net/{tcp,udp}[6]. */
export function parseInet(text: string, protocol: InetSocket['protocol']): [number, InetSocket][] {
  const rows = text
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/));
  return rows.flatMap(([, local = '', remote = '', state = '', queues = '', , , , , inode = '0']) => {
    // State 0A is TCP_LISTEN, 07 TCP_CLOSE: what an unconnected UDP socket is in. Inode 0: no process has it any more.
    const listening = state === (protocol === 'tcp' ? '0A' : '07');
    if (inode === '0') return [];
    const socket: InetSocket = {
      kind: 'inet',
      protocol,
      state: listening ? 'listening' : 'connected',
      local: parseEndpoint(local),
      remote: parseEndpoint(remote),
      waiting: listening ? Number.parseInt(queues.split(':')[1] ?? '0', 16) : 0,
      multipath: false,
    };
    return [[Number(inode), socket]];
  });
}

/** Local ends of multipath TCP sockets in the output of `ss --mptcp`; the subflows in /proc/net/tcp look like any other. */
export function parseMultipath(text: string): Set<string> {
  const ends = [...text.matchAll(/^mptcp\s+\S+\s+\d+\s+\d+\s+(\S+):(\d+)\s/gm)];
  return new Set(
    ends.map(
      ([, address = '', port]) =>
        `${address.replace(/^\[?(.*?)\]?(%.*)?$/, '$1').replace(/^\*$/, '::')}:${port}`,
    ),
  );
}

/**
 * Output of `ss --unix --all --no-header --extended`: type, state, two queues, path, inode, peer's path, peer's inode, directions that
 * are open. An end whose peer has gone is shut in both directions; one without a peer that is open waits to be accepted.
 */
export function parseUnix(text: string): [number, UnixSocket][] {
  const types: Record<string, UnixSocket['type']> = { u_str: 'stream', u_dgr: 'dgram', u_seq: 'seqpacket' };
  return text.split('\n').flatMap((line) => {
    const match =
      /^(u_\w+)\s+(\S+)\s+(\d+)\s+\d+\s+(.*?)\s+(\d+)\s+(\S.*?)\s+(\d+)(?:\s+(<->|---|<--|-->).*)?\s*$/.exec(
        line,
      );
    const type = types[match?.[1] ?? ''];
    if (!match || !type) return [];
    const [, , state, queue, path = '*', inode, , peer, directions = '---'] = match;
    const listening = state === 'LISTEN';
    const pending = type !== 'dgram' && state === 'ESTAB' && peer === '0' && directions !== '---';
    const socket: UnixSocket = {
      ...{ kind: 'unix', type, listening, path: path === '*' ? '' : path, peer: Number(peer) },
      ...{ pending, waiting: listening ? Number(queue) : 0 },
    };
    return [[Number(inode), socket]];
  });
}

/** `0B00A8C0:0016` → 192.168.0.11:22. The kernel prints the address as 32-bit words in the machine's (little-endian) order. */
export function parseEndpoint(text: string): Endpoint {
  const [hex = '', port = '0'] = text.split(':');
  const bytes = Buffer.from(hex, 'hex');
  for (let at = 0; at + 4 <= bytes.length; at += 4) bytes.subarray(at, at + 4).reverse();
  return {
    address: bytes.length === 16 ? ipv6(bytes) : [...bytes].join('.'),
    port: Number.parseInt(port, 16),
  };
}

function ipv6(bytes: Buffer): string {
  const isMapped = bytes.readUInt32BE(8) === 0xffff && bytes.readBigUInt64BE(0) === 0n;
  if (isMapped) return [...bytes.subarray(12)].join('.');
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(index * 2).toString(16));
  const whole = groups.join(':');
  const [longest] = [...whole.matchAll(/\b0(:0)+\b/g)].sort((a, b) => b[0].length - a[0].length);
  if (!longest) return whole;
  const before = whole.slice(0, longest.index).replace(/:$/, '');
  return `${before}::${whole.slice(longest.index + longest[0].length).replace(/^:/, '')}`;
}

function procNet(file: string): string {
  try {
    return readFileSync(`/proc/net/${file}`, 'latin1');
  } catch {
    return ''; // its protocol's module is not loaded
  }
}
