/** A process whose memory has gone to a swap file of the test's own: what was recorded comes back in one go. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { silentLog } from '../../../common/log.ts';
import { localHost } from '../../../orchestrator/host/local.ts';
import { memoryCgroup } from '../../../orchestrator/hypervisor/memory-cgroup.ts';
import { workingSet } from '../../../orchestrator/suspend/working-set.ts';

const MiB = 1024 * 1024;
const OWN_MIB = 64;
const TMPFS = 0x01021994;
const v1 = existsSync('/sys/fs/cgroup/memory/memory.limit_in_bytes');
const path = join(v1 ? '/sys/fs/cgroup/memory' : '/sys/fs/cgroup', `seamless-test-ws-${process.pid}`);
// Nothing can swap to a file on tmpfs.
const folder = mkdtempSync(join(statfsSync(tmpdir()).type === TMPFS ? '/var/tmp' : tmpdir(), 'seamless-ws-'));
const swap = join(folder, 'swap');
const never = new AbortController().signal;
const undo: (() => Promise<unknown> | void)[] = [() => rmSync(folder, { recursive: true, force: true })];
let pid = 0;
let touch: () => Promise<void>;

beforeAll(async () => {
  await exec([join(import.meta.dirname, '../../../scripts/build-helpers')], { timeoutMs: 110_000 });
  await exec(['fallocate', '--length', '256MiB', swap]);
  await exec(['chmod', '600', swap]);
  await exec(['mkswap', '--quiet', swap]);
  await exec(['swapon', swap]);
  undo.push(() => exec(['swapoff', swap], { timeoutMs: 60_000 }));
  mkdirSync(path);
  undo.push(() => vi.waitFor(() => rmdirSync(path), { timeout: 5000, interval: 20 }));
  const script = `
    require('node:fs').writeFileSync('${path}/cgroup.procs', String(process.pid));
    const own = Buffer.alloc(${OWN_MIB * MiB}, 1);
    console.log('ready');
    process.stdin.on('data', () => {
      for (let at = 0; at < own.length; at += 4096) own[at] += 1;
      console.log('touched');
    });
  `;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  pid = child.pid as number;
  undo.push(async () => {
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  });
  const lines = createInterface({ input: child.stdout });
  await once(lines, 'line');
  touch = async () => {
    child.stdin.write('.');
    await once(lines, 'line');
  };
}, 120_000);

afterAll(async () => {
  for (const step of undo.reverse()) await step();
});

/** Page faults so far that had to wait for a read. */
const majorFaults = () => Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[9]);

test('what was in use is read from swap at once, and faulted in hardly at all', async () => {
  const host = localHost();
  const cgroup = memoryCgroup(host, path);
  const set = workingSet({
    ...{ vm: 'vm1', host, cgroup, runDir: folder, log: silentLog },
    program: join(import.meta.dirname, '../../../build/working-set'),
  });
  expect(await cgroup.processes()).toEqual([pid]);
  const faultsOf = async (prefetch: boolean) => {
    await cgroup.squeeze(10 * MiB, never);
    expect(await cgroup.resident()).toBeLessThan(OWN_MIB * MiB);
    if (prefetch) await set.prefetch();
    const before = majorFaults();
    await touch();
    return majorFaults() - before;
  };
  await touch();
  const other = spawn('sh', ['-c', 'echo $$ >"$0/cgroup.procs" && exec sleep 100', path]);
  await vi.waitUntil(async () => (await cgroup.processes()).length === 2, { timeout: 5000, interval: 10 });
  await set.record();
  other.kill(); // one that has ended meanwhile spoils nothing
  await once(other, 'exit');
  const without = await faultsOf(false);
  expect(without).toBeGreaterThan(100);
  expect(await faultsOf(true)).toBeLessThan(without / 3);
}, 60_000);

test('all of it goes to swap when asked to, and is not asked any more when the VM is wanted', async () => {
  const host = localHost();
  const cgroup = memoryCgroup(host, path);
  const program = join(import.meta.dirname, '../../../build/working-set');
  const set = workingSet({ vm: 'vm3', host, cgroup, runDir: folder, program, log: silentLog });
  await touch();
  await set.evict(AbortSignal.abort());
  expect(await cgroup.resident()).toBeGreaterThan(OWN_MIB * MiB);
  await set.evict(never);
  expect(await cgroup.swapped()).toBeGreaterThan(0.9 * OWN_MIB * MiB);
  await touch();
}, 60_000);

test('what was not in use goes first, and no more than asked for', async () => {
  const host = localHost();
  const cgroup = memoryCgroup(host, path);
  const program = join(import.meta.dirname, '../../../build/working-set');
  const set = workingSet({ vm: 'vm4', host, cgroup, runDir: folder, program, log: silentLog });
  await set.evict(never);
  await set.record();
  await touch();
  const all = await cgroup.swapped();
  await set.evictOthers(8 * MiB, never);
  const some = (await cgroup.swapped()) - all;
  expect(some).toBeGreaterThan(7 * MiB);
  expect(some).toBeLessThan(9 * MiB);
  await touch();
  await set.record();
  const before = await cgroup.swapped();
  await set.evictOthers(OWN_MIB * MiB, never);
  expect(await cgroup.swapped()).toBeLessThan(before + MiB);
}, 60_000);

test('without a record nothing is read, and nobody is the worse for it', async () => {
  const host = localHost();
  const warned: string[] = [];
  const log = { ...silentLog, warn: (event: string) => void warned.push(event) };
  const program = join(import.meta.dirname, '../../../build/working-set');
  const set = workingSet({ vm: 'vm2', host, cgroup: memoryCgroup(host, path), runDir: folder, program, log });
  await set.prefetch();
  expect(warned).toEqual(['workingSet.prefetchFailed']);
});
