/** A memory cgroup with a real process in it, whose memory is the page cache of a file and some of its own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { localHost } from '../../../orchestrator/host/local.ts';
import { memoryCgroup } from '../../../orchestrator/hypervisor/memory-cgroup.ts';

const MiB = 1024 * 1024;
const v1 = existsSync('/sys/fs/cgroup/memory/memory.limit_in_bytes');
const path = join(v1 ? '/sys/fs/cgroup/memory' : '/sys/fs/cgroup', `seamless-test-${process.pid}`);
const folder = mkdtempSync(join(tmpdir(), 'seamless-cgroup-'));
const child: { pid?: number; ended?: Promise<unknown> } = {};
const never = new AbortController().signal;

beforeAll(async () => {
  mkdirSync(path);
  const ready = join(folder, 'ready');
  const file = join(folder, 'file');
  // 120 MiB of page cache, which can be had back, and 20 MiB of its own, which cannot without swap.
  const script = `
    const fs = require('node:fs');
    fs.writeFileSync('${path}/cgroup.procs', String(process.pid));
    const own = Buffer.alloc(20 * ${MiB}, 1);
    const block = Buffer.alloc(${MiB}, 2);
    const fd = fs.openSync('${file}', 'w+');
    for (let i = 0; i < 120; i++) fs.writeSync(fd, block);
    fs.fsyncSync(fd);
    fs.writeFileSync('${ready}', '');
    setInterval(() => own.length, 1000);
  `;
  const spawned = spawn(process.execPath, ['-e', script], { stdio: 'ignore' });
  child.pid = spawned.pid as number;
  child.ended = once(spawned, 'exit');
  await vi.waitUntil(() => existsSync(ready), { timeout: 20_000, interval: 10 });
}, 30_000);

afterAll(async () => {
  if (child.pid) process.kill(child.pid, 'SIGKILL');
  await child.ended;
  if (v1) writeFileSync(join(path, 'memory.force_empty'), '0');
  await vi.waitFor(() => rmdirSync(path), { timeout: 5000, interval: 20 });
  rmSync(folder, { recursive: true, force: true });
});

test('resident memory is that of the group’s processes', async () => {
  const resident = await memoryCgroup(localHost(), path).resident();
  expect(resident).toBeGreaterThan(40 * MiB);
  expect(resident).toBeLessThan(200 * MiB);
});

test('a squeeze that is not wanted any more changes nothing', async () => {
  const cgroup = memoryCgroup(localHost(), path);
  const before = await cgroup.usage();
  await cgroup.squeeze(10 * MiB, AbortSignal.abort());
  expect(await cgroup.usage()).toBeGreaterThan(before - 10 * MiB);
});

test('a squeeze takes what can be taken, ends by itself, and lifting it leaves no limit', async () => {
  const cgroup = memoryCgroup(localHost(), path);
  const before = await cgroup.usage();
  expect(before).toBeGreaterThan(120 * MiB);
  await cgroup.squeeze(10 * MiB, never);
  expect(await cgroup.usage()).toBeLessThan(before - 80 * MiB);
  await cgroup.lift();
  await cgroup.lift();
  const limit = await localHost().readFile(join(path, v1 ? 'memory.limit_in_bytes' : 'memory.high'));
  expect(limit.trim() === 'max' || Number(limit) > 2 ** 50).toBe(true);
}, 60_000);

test('a path that is no memory cgroup is refused, with what was looked for', async () => {
  await expect(memoryCgroup(localHost(), folder).usage()).rejects.toMatchObject({
    code: 'HOST_UNREACHABLE',
    message: expect.stringContaining('memory.limit_in_bytes'),
  });
});
