/**
 * Random sequences of dup, close, accept, SCM_RIGHTS, threads and forks: whatever has happened to a number, what the filter takes it for is
 * what it is now. It keeps no table of descriptors, only facts about inodes that can't change (descriptor.h), so this is about those.
 */
import { once } from 'node:events';
import { readdir, readlink, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { startObserver } from './fixtures/observer.ts';
import { compileVictim, REPOSITORY, startProcess } from './fixtures/victim.ts';

const SEEDS = [1, 2, 3, 4];
const STEPS = 120;
let program: string;

beforeAll(async () => {
  await exec([join(REPOSITORY, 'scripts/build-helpers'), '--sanitize'], { timeoutMs: 110_000 });
  program = await compileVictim('shuffler.c');
});

afterAll(() => rm(dirname(program), { recursive: true, force: true }));

/** Something that numbers refer to. */
interface Thing {
  kind: string;
  /** Of a listener. */
  port?: number;
}
interface Member {
  index: number;
  pid: number;
  table: Map<number, Thing>;
  /** Numbers that the program itself needs. */
  kept: Set<number>;
}

test.each(SEEDS)('sequence %i: the filter’s view is /proc/PID/fd’s, all along', async (seed) => {
  const random = randomNumbers(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  const victim = await startProcess((port, folder) => [program, port, folder], onTestFinished);
  await exec(['mkfifo', join(victim.folder, 'fifo')]);
  const clients: Socket[] = [];
  onTestFinished(() => clients.forEach((client) => void client.destroy()));
  const control = Number(victim.greeting.split(' ')[1]);
  const root: Member = {
    index: 0,
    pid: victim.pid,
    kept: new Set([0, 1, 2, control]),
    table: new Map([
      [0, { kind: 'null' }],
      [1, { kind: 'peer-outside' }],
      [2, { kind: '?' }], // whatever ours is
      [control, { kind: 'tcp' }],
    ]),
  };
  const members = [root];
  const observer = await startObserver(join(REPOSITORY, 'build/sanitized/syscall-observer'), [victim.pid]);
  onTestFinished(() => void observer.child.kill('SIGKILL'));
  const say = async (member: Member, words: string, thread = 0): Promise<number[]> => {
    victim.say(`${member.index} ${thread} ${words}`);
    return (await victim.hears()).split(' ').map(Number);
  };
  const one = async (member: Member, words: string, thing: Thing) => {
    const [fd = -1] = await say(member, words, random() < 0.3 ? 1 : 0);
    if (fd >= 0) member.table.set(fd, thing);
  };
  const free = (member: Member) => [...member.table.keys()].filter((fd) => !member.kept.has(fd));

  const operations: Record<string, (member: Member) => Promise<void>> = {
    async two(member) {
      const [words, kind] = pick([
        ['pipe', 'pipe'],
        ['pair 0', 'unix'],
        ['pair 1', 'unix'],
      ] as const);
      const [a = -1, b = -1] = await say(member, words);
      for (const fd of [a, b]) member.table.set(fd, { kind });
    },
    async make(member) {
      const kinds = ['eventfd', 'timerfd', 'epoll', 'udp', 'null', 'memfd', 'file', 'fifo'];
      const word = pick(kinds);
      await one(member, `${word} 0 ${Math.floor(random() * 9)}`, {
        kind: ['memfd', 'file', 'fifo'].includes(word) ? 'file' : word,
      });
    },
    async listen(member) {
      const [fd = -1, port = 0] = await say(member, 'listen');
      member.table.set(fd, { kind: 'tcp-listener', port });
    },
    async accept(member) {
      const listeners = [...member.table].filter(([, { port }]) => port !== undefined);
      const [fd, thing] = pick(listeners) ?? [];
      if (fd === undefined || thing?.port === undefined) return;
      const client = connect(thing.port, '127.0.0.1');
      clients.push(client);
      client.on('error', () => {});
      await once(client, 'connect');
      await one(member, `accept ${fd}`, { kind: 'tcp' });
    },
    async dup(member) {
      const from = pick([...member.table.keys()]);
      await one(member, `dup ${from}`, member.table.get(from) as Thing);
    },
    async dup2(member) {
      const from = pick([...member.table.keys()]);
      const to = pick([...free(member), 40, 41, 42]);
      await one(member, `dup2 ${from} ${to}`, member.table.get(from) as Thing);
    },
    async close(member) {
      const fd = pick(free(member));
      if (fd === undefined) return;
      await say(member, `close ${fd}`, random() < 0.3 ? 1 : 0);
      member.table.delete(fd);
    },
    async pass(member) {
      if (member === root) return;
      const [from, to, word] = random() < 0.5 ? [root, member, 'give'] : [member, root, 'take'];
      const fd = pick([...from.table.keys()]);
      const [came = -1] = await say(member, `${word} ${fd}`);
      to.table.set(came, from.table.get(fd) as Thing);
    },
    async fork() {
      if (members.length > 4) return;
      const [pid = 0, ours = -1, theirs = -1] = await say(root, 'fork');
      const table = new Map(root.table).set(ours, { kind: 'unix' }).set(theirs, { kind: 'unix' });
      members.push({ index: members.length, pid, table, kept: new Set([...root.kept, theirs]) });
      root.table.set(ours, { kind: 'unix' });
      root.kept.add(ours);
    },
  };

  for (let step = 0; step < STEPS; step++) {
    const operation = pick(
      Object.keys(operations).concat('two', 'make', 'dup', 'dup2', 'close', 'close', 'pass', 'pass'),
    );
    await operations[operation]?.(pick(members));
    if (step % 5 !== 0 && step !== STEPS - 1) continue;
    const kinds = await observer.kinds();
    for (const { pid, table } of members) {
      const real = (await readdir(`/proc/${pid}/fd`)).sort();
      expect(Object.keys(kinds.get(pid) ?? {}).sort(), `step ${step}: numbers of ${pid}`).toEqual(real);
      expect([...table.keys()].map(String).sort(), `step ${step}: the test's own table of ${pid}`).toEqual(
        real,
      );
      for (const [fd, { kind }] of table) {
        const link = await readlink(`/proc/${pid}/fd/${fd}`);
        if (kind !== '?') expect(kinds.get(pid)?.[fd], `step ${step}: ${pid}'s ${fd}, ${link}`).toBe(kind);
      }
    }
  }
  expect((await observer.end()).length).toBeGreaterThan(0);
  expect(await say(root, 'dup 0')).toHaveLength(2); // it runs on, untraced
});

/** Between 0 and 1, the same for the same seed (mulberry32). */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
