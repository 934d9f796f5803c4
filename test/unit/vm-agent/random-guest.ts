/** Guests at random, from a seed: processes with all kinds of links between them, and infrastructure among them. */
import type { Snapshot } from '../../../vm-agent/gateway/snapshot.ts';
import type { Socket } from '../../../vm-agent/gateway/sockets.ts';
import { connected, listening, type ProcessSketch, unix } from './guest.ts';

export interface GuestSketch {
  processes: ProcessSketch[];
  sockets: Record<number, Socket>;
  locks: Snapshot['locks'];
  /** Names of pipes, inodes and the like; each link takes two. */
  nextId: number;
}

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function randomGuest(seed: number): GuestSketch {
  const random = randomNumbers(seed);
  const below = (count: number) => Math.floor(random() * count);
  const guest: GuestSketch = { processes: [], sockets: {}, locks: [], nextId: 1000 };
  const count = 3 + below(12);
  for (let index = 0; index < count; index += 1) {
    const before = guest.processes.map(({ pid }) => pid);
    const pid = 200 + index;
    guest.processes.push({
      pid,
      program: `p${pid}`,
      parent: random() < 0.4 ? (before[below(before.length)] ?? 1) : 1,
      session: random() < 0.2 ? (before[below(before.length)] ?? pid) : pid,
      ...(random() < 0.15 ? { unit: 'cron.service' } : {}),
      fds: [],
      maps: [],
    });
  }
  const links = below(count + 4);
  for (let link = 0; link < links; link += 1) addLink(guest, random);
  const listeners = 1 + below(3);
  for (let port = 0; port < listeners; port += 1) {
    const inode = 9000 + port;
    guest.sockets[inode] = listening(1000 + port, ['0.0.0.0', '127.0.0.1', '10.0.0.11'][below(3)]);
    give(guest, below(count), `socket:[${inode}]`);
  }
  return guest;
}

/** Ties two processes together, or one to itself. */
export function addLink(guest: GuestSketch, random: () => number): void {
  const below = (count: number) => Math.floor(random() * count);
  const [one, other] = [below(guest.processes.length), below(guest.processes.length)];
  const id = guest.nextId;
  guest.nextId += 2;
  const pids = [one, other].map((index) => guest.processes[index]?.pid ?? 0);
  const both = (target: Given) => [one, other].forEach((index) => void give(guest, index, target));
  switch (below(9)) {
    case 0:
      return both(`pipe:[${id}]`);
    case 1:
      return both({ target: '/run/fifo', object: `fifo:1:${id}` });
    case 2:
      return both({ target: 'anon_inode:[eventfd]', object: `eventfd:${id}` });
    case 3:
      give(guest, one, { target: '/dev/ptmx', terminal: id });
      return give(guest, other, `/dev/pts/${id}`);
    case 4:
      guest.sockets[id] = unix(id + 1);
      guest.sockets[id + 1] = unix(id);
      give(guest, one, `socket:[${id}]`);
      return give(guest, other, `socket:[${id + 1}]`);
    case 5:
      guest.sockets[id] = connected(`127.0.0.1:${id}`, '127.0.0.1:80');
      guest.sockets[id + 1] = connected('127.0.0.1:80', `127.0.0.1:${id}`);
      give(guest, one, `socket:[${id}]`);
      return give(guest, other, `socket:[${id + 1}]`);
    case 6:
      for (const [index, flags] of [
        [one, 'rw-s'],
        [other, 'r--s'],
      ] as const) {
        guest.processes[index]?.maps?.push(`${flags} 00000000 00:01 ${id} /dev/zero (deleted)`);
      }
      return;
    case 7:
      guest.locks.push({ file: `fe:00:${id}`, pids });
      return;
    default:
      return give(guest, one, { target: 'anon_inode:[pidfd]', refersTo: pids[1] ?? 0 });
  }
}

type Given = NonNullable<ProcessSketch['fds']>[number];

function give(guest: GuestSketch, index: number, target: Given): void {
  guest.processes[index]?.fds?.push(target);
}
