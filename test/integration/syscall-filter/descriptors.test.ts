/** The same call on descriptors of every kind: what the filter takes each for. */
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { filterVictim, REPOSITORY, startProcess, thaw } from './fixtures/victim.ts';

const cleanups: (() => Promise<unknown>)[] = [];
let victim: Awaited<ReturnType<typeof startProcess>>;
let numbers: Map<string, number>;
let externalFile: string;

beforeAll(async () => {
  await exec([join(REPOSITORY, 'scripts/build-helpers'), '--sanitize'], { timeoutMs: 110_000 });
  const folder = await mkdtemp(join(tmpdir(), 'slf-fd-'));
  cleanups.push(() => rm(folder, { recursive: true, force: true }));
  const outside = createServer().listen(join(folder, 'outside.sock'));
  await once(outside, 'listening');
  cleanups.push(async () => outside.close());
  const script = join(import.meta.dirname, 'fixtures/descriptors.pl');
  victim = await startProcess(
    (port, own) => ['perl', script, port, own, join(folder, 'outside.sock')],
    (undo) => cleanups.push(undo),
  );
  numbers = new Map(
    victim.greeting
      .split(' ')
      .slice(1)
      .map((pair) => pair.split('='))
      .map(([name, fd]) => [name ?? '', Number(fd)]),
  );
  externalFile = join(folder, 'external');
  await writeFile(externalFile, `${JSON.stringify({ pid: victim.pid, fd: numbers.get('external') })}\n`);
});

afterAll(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
});

/** The rule that stopped the command, or `runs`. */
async function outcome(command: string, name: string): Promise<string> {
  const { filter, trigger } = await filterVictim(victim, join(REPOSITORY, 'build/sanitized/syscall-filter'), {
    externalFile,
  });
  await filter.go();
  victim.say(`${command} ${numbers.get(name)}`);
  const answer = victim.hears();
  const first = await Promise.race([trigger, answer]);
  await filter.freeze();
  await thaw(victim.cgroup);
  await answer;
  if (typeof first === 'string') return 'runs';
  expect(first.fd?.number).toBe(numbers.get(name));
  return first.rule;
}

test.each([
  ['write', 'tcp', 'runs'],
  ['write', 'udp', 'runs'],
  ['write', 'null', 'runs'],
  ['write', 'pipe', 'runs'],
  ['write', 'pair', 'runs'],
  ['read', 'pairpeer', 'runs'],
  ['read', 'piperead', 'runs'],
  ['read', 'halfpipe', 'runs'],
  ['write', 'none', 'runs'],
  ['write', 'file', 'descriptor.file'],
  ['write', 'fifo', 'descriptor.file'],
  ['write', 'external', 'descriptor.external'],
  ['dup', 'external', 'descriptor.external'],
  ['write', 'outpipe', 'descriptor.peer'],
  ['write', 'unixout', 'descriptor.peer'],
  ['write', 'raw', 'descriptor.kind'],
  ['dup', 'tcp', 'runs'],
  ['dup', 'file', 'descriptor.file'],
  ['close', 'udp', 'runs'],
  ['close', 'file', 'descriptor.file'],
])('%s on %s: %s', async (command, name, expected) => {
  expect(await outcome(command, name)).toBe(expected);
});
