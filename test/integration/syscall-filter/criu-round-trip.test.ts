/** VM → sink → VM with the real CRIU: a call that was cancelled in the sink runs for the first time in the VM. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rm, rmdir, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { silentLog } from '../../../common/log.ts';
import { startSyscallFilter } from '../../../sink-agent/syscall-filter.ts';
import type { Trigger } from '../../../sink-agent/trigger.ts';
import { type Box, startBox } from './fixtures/box.ts';
import {
  compileVictim,
  isFrozen,
  lines,
  REPOSITORY,
  removeVictim,
  UNIFIED,
  until,
} from './fixtures/victim.ts';

const NETNS = `slf-${process.pid}`;
const PORT = 7101;
const cleanups: (() => Promise<unknown>)[] = [];
let shared: string;
let cgroupRoot: string;

beforeAll(async () => {
  await exec([join(REPOSITORY, 'scripts/build-helpers')], { timeoutMs: 110_000 });
  const program = await compileVictim();
  shared = await mkdtemp(join(tmpdir(), 'slf-box-'));
  cleanups.push(() => rm(shared, { recursive: true, force: true }));
  await copyFile(program, join(shared, 'victim'));
  await removeVictim(program);
  const script = 'restore-frozen.sh';
  await copyFile(join(import.meta.dirname, 'fixtures', script), join(shared, script));
  cgroupRoot = join(UNIFIED, NETNS);
  await mkdir(cgroupRoot);
  cleanups.push(() => rmdir(cgroupRoot));
  await exec(['ip', 'netns', 'add', NETNS]);
  cleanups.push(() => exec(['ip', 'netns', 'delete', NETNS]));
  await exec(['ip', '-n', NETNS, 'link', 'set', 'lo', 'up']);
});

afterAll(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
});

async function box(name: string): Promise<Box> {
  const made = await startBox({ name, netns: NETNS, shared, cgroupRoot });
  cleanups.push(made.end);
  return made;
}

test('a call cancelled in the sink runs once in the VM; nothing runs unfiltered before; blocked threads sleep on', async () => {
  const file = '/box/made';
  const vm = await box('vm');
  const root = await vm.start('/box/victim', String(PORT), 'listen');
  const client = spawn('nsenter', [
    `--net=/run/netns/${NETNS}`,
    ...['bash', '-c', `until exec 3<>/dev/tcp/127.0.0.1/${PORT}; do :; done 2>/dev/null; cat <&3 & cat >&3`],
  ]);
  cleanups.push(async () => void client.kill('SIGKILL'));
  const { hears } = lines(client.stdout as unknown as Socket);
  const say = (line: string) => void client.stdin.write(`${line}\n`);
  expect(await hears()).toMatch(/^ready/);

  // The command reaches it while it is frozen: it is the first thing that it would do in the sink, were it not filtered.
  await writeFile(join(vm.cgroup, 'cgroup.freeze'), '1');
  await until('the freeze', () => isFrozen(vm.cgroup));
  say('waits');
  await until('the command to arrive', async () => queued(await tcpSockets()));
  await vm.dump(root, 'to-sink');
  await vm.end();

  const sink = await box('sink');
  await sink.restore('to-sink', true);
  expect(await isFrozen(sink.cgroup)).toBe(true);
  const trigger = Promise.withResolvers<Trigger>();
  const filter = await startSyscallFilter({
    binary: join(REPOSITORY, 'build/syscall-filter'),
    cgroup: sink.cgroup,
    accept: 'trigger',
    log: silentLog,
    onTrigger: trigger.resolve,
  });
  expect(filter.tasks).toBe(14);
  expect(queued(await tcpSockets())).toBe(true);
  await filter.go();
  // CRIU's own dump in the VM made some of the waiting calls return; from here on none may.
  const before = await hears();
  say('timer 600');
  expect(await hears()).toBe('timer 0');
  say(`open ${file}`);
  expect(await trigger.promise).toMatchObject({ pid: root, tid: root, syscall: 'openat', rule: 'file.open' });
  expect(await filter.exited).toMatchObject({ frozen: true });
  expect(existsSync(join(shared, 'made'))).toBe(false);
  await sink.dump(root, 'to-vm');
  await sink.end();
  expect(existsSync(join(shared, 'made'))).toBe(false);

  const back = await box('vm-again');
  await back.restore('to-vm', false);
  expect(await hears()).toBe('open 1 errno 0'); // O_EXCL: for the first time
  expect(existsSync(join(shared, 'made'))).toBe(true);
  say('waits');
  expect(await hears()).toBe(before);
  say('child');
  expect([await hears(), await hears()].sort()).toEqual(['child', 'sent 1']);
  await back.end();
}, 60_000);

/** Sockets of the shared network namespace, as the kernel lists them. */
async function tcpSockets(): Promise<string> {
  return (await exec(['nsenter', `--net=/run/netns/${NETNS}`, 'cat', '/proc/net/tcp'])).stdout;
}

/** True when the victim's end has bytes that nobody has read. */
function queued(sockets: string): boolean {
  const port = PORT.toString(16).toUpperCase().padStart(4, '0');
  const line = sockets
    .split('\n')
    .find((each) => new RegExp(`^ *\\d+: \\w+:${port} \\w+:\\w+ 01`).test(each));
  return line !== undefined && !/ \w+:00000000 \w\w:/.test(line);
}
