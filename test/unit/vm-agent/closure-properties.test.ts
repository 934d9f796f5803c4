/** What holds of the gateway set of any guest; each guest is made from a seed, which a failure names. */
import { describe, expect, it } from 'vitest';
import { gatewaySet } from '../../../vm-agent/gateway/closure.ts';
import { isInfrastructure } from '../../../vm-agent/gateway/infrastructure.ts';
import type { Process, Snapshot } from '../../../vm-agent/gateway/snapshot.ts';
import { AGENT, guest, OPTIONS } from './guest.ts';
import { addLink, type GuestSketch, randomGuest, randomNumbers } from './random-guest.ts';

const SEEDS = [...Array(500).keys()];

const snapshotOf = ({ processes, sockets, locks }: GuestSketch): Snapshot => guest(processes, sockets, locks);
const membersOf = (sketch: GuestSketch): number[] =>
  [...gatewaySet(snapshotOf(sketch), OPTIONS).members.keys()].sort((a, b) => a - b);

/** True when `one` drags `other` along: said once more, as plainly as can be, for two processes at a time. */
function drags(one: Process, other: Process, snapshot: Snapshot): boolean {
  if (other.parent === one.pid || one.parent === other.pid) return true;
  if (one.session > 1 && one.session === other.session) return true;
  if (snapshot.locks.some(({ pids }) => pids.includes(one.pid) && pids.includes(other.pid))) return true;
  if (one.descriptors.some(({ refersTo }) => refersTo === other.pid)) return true;
  const [mine, theirs] = [one, other].map(({ pid }) => snapshot.mappings(pid).filter(({ shared }) => shared));
  const isShared = mine?.some((a) =>
    theirs?.some((b) => a.identity === b.identity && (a.writable || b.writable)),
  );
  if (isShared) return true;
  const ends = (process: Process) =>
    process.descriptors.map(({ target, terminal, object }) => ({
      name: terminal === undefined ? (object ?? target) : `/dev/pts/${terminal}`,
      socket: snapshot.sockets.get(Number(/^socket:\[(\d+)\]$/.exec(target)?.[1])),
      inode: Number(/^socket:\[(\d+)\]$/.exec(target)?.[1]),
    }));
  return ends(one).some((a) =>
    ends(other).some((b) => {
      if (a.name === b.name && a.name !== 'anon_inode:[pidfd]') return true;
      if (a.socket?.kind === 'unix') return a.socket.peer === b.inode;
      if (a.socket?.kind !== 'inet' || b.socket?.kind !== 'inet') return false;
      return (
        JSON.stringify([a.socket.local, a.socket.remote]) ===
        JSON.stringify([b.socket.remote, b.socket.local])
      );
    }),
  );
}

/** One test for all seeds. */
function property(title: string, holds: (seed: number) => void): void {
  it(title, () => {
    for (const seed of SEEDS) {
      try {
        holds(seed);
      } catch (cause) {
        throw new Error(`with seed ${seed}`, { cause });
      }
    }
  });
}

describe('the gateway set of any guest', () => {
  property('is closed under each link, and holds nothing but what a listener drags along', (seed) => {
    const sketch = randomGuest(seed);
    const snapshot = snapshotOf(sketch);
    const { members, listeners } = gatewaySet(snapshot, OPTIONS);
    const processes = [...snapshot.processes.values()].filter((process) => !isInfrastructure(process, AGENT));
    // The least set that holds the listeners and is closed, found by trying all pairs over and over.
    const expected = new Set(listeners.map(({ pid }) => pid));
    for (let size = -1; size !== expected.size; ) {
      size = expected.size;
      for (const one of processes.filter(({ pid }) => expected.has(pid))) {
        for (const other of processes) if (drags(one, other, snapshot)) expected.add(other.pid);
      }
    }
    expect([...members.keys()].sort()).toEqual([...expected].sort());
  });

  property('never shrinks when a link or a process is added', (seed) => {
    const sketch = randomGuest(seed);
    const before = membersOf(sketch);
    addLink(sketch, randomNumbers(seed + 10_000));
    const pids = sketch.processes.map(({ pid }) => pid);
    sketch.processes.push({ pid: 999, parent: pids[seed % pids.length] ?? 1, fds: [], maps: [] });
    expect(membersOf(sketch)).toEqual(expect.arrayContaining(before));
  });

  property('is the same in whatever order processes, descriptors, sockets and locks come', (seed) => {
    const sketch = randomGuest(seed);
    const expected = membersOf(sketch);
    const random = randomNumbers(seed + 20_000);
    const shuffled = <T>(list: readonly T[]): T[] =>
      list
        .map((item) => ({ item, at: random() }))
        .sort((a, b) => a.at - b.at)
        .map(({ item }) => item);
    const turned: GuestSketch = {
      processes: shuffled(sketch.processes).map((one) => ({
        ...one,
        fds: shuffled(one.fds ?? []),
        maps: shuffled(one.maps ?? []),
      })),
      sockets: Object.fromEntries(shuffled(Object.entries(sketch.sockets))),
      nextId: sketch.nextId,
      locks: shuffled(sketch.locks).map((lock) => ({ ...lock, pids: shuffled(lock.pids) })),
    };
    expect(membersOf(turned)).toEqual(expected);
  });

  property('falls into trees that hold each member once, children with their parents', (seed) => {
    const snapshot = snapshotOf(randomGuest(seed));
    const { members, trees } = gatewaySet(snapshot, OPTIONS);
    const inTrees = trees.flatMap((tree) => tree.members);
    expect([...inTrees].sort()).toEqual([...members.keys()].sort());
    for (const tree of trees) {
      expect(tree.members[0]).toBe(tree.root);
      for (const pid of tree.members.slice(1))
        expect(tree.members).toContain(snapshot.processes.get(pid)?.parent);
    }
  });
});
