/** Suspend-to-swap with a real QEMU, most of whose memory is in use but which has no guest: what leaves, and that it comes back. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { silentLog } from '../../../common/log.ts';
import { localHost } from '../../../orchestrator/host/local.ts';
import { memoryCgroup } from '../../../orchestrator/hypervisor/memory-cgroup.ts';
import { Qmp } from '../../../orchestrator/hypervisor/qmp.ts';
import { paceOf } from '../../../orchestrator/memory/pace.ts';
import { suspendToSwap } from '../../../orchestrator/suspend/suspend-to-swap.ts';
import { workingSet } from '../../../orchestrator/suspend/working-set.ts';

const MiB = 1024 * 1024;
const GUEST_MIB = 192;
/** Random, because what is all zero needs no swap. */
const USED_MIB = 128;
const TMPFS = 0x01021994;
const root = join(import.meta.dirname, '../../..');
const v1 = existsSync('/sys/fs/cgroup/memory/memory.limit_in_bytes');
const path = join(v1 ? '/sys/fs/cgroup/memory' : '/sys/fs/cgroup', `seamless-test-swap-${process.pid}`);
// Nothing can swap to a file on tmpfs.
const folder = mkdtempSync(
  join(statfsSync(tmpdir()).type === TMPFS ? '/var/tmp' : tmpdir(), 'seamless-swap-'),
);
const swap = join(folder, 'swap');
const never = new AbortController().signal;
const undo: (() => Promise<unknown> | void)[] = [() => rmSync(folder, { recursive: true, force: true })];
const host = localHost();
const cgroup = memoryCgroup(host, path, paceOf(host));
const qmp = new Qmp({ name: 'vm1', connect: (signal) => host.connect(join(folder, 'qmp'), signal) });

beforeAll(async () => {
  await exec([join(root, 'scripts/build-helpers')], { timeoutMs: 110_000 });
  await exec(['fallocate', '--length', '384MiB', swap]);
  await exec(['chmod', '600', swap]);
  await exec(['mkswap', '--quiet', swap]);
  await exec(['swapon', swap]);
  undo.push(() => exec(['swapoff', swap], { timeoutMs: 60_000 }));
  mkdirSync(path);
  undo.push(() => vi.waitFor(() => rmdirSync(path), { timeout: 5000, interval: 20 }));
  undo.push(async () => {
    qmp.close();
    for (const pid of await cgroup.processes()) process.kill(pid, 'SIGKILL');
    await vi.waitUntil(async () => (await cgroup.processes()).length === 0, { timeout: 5000, interval: 10 });
  });
  const fill = [
    'if=/dev/urandom',
    `of=${join(folder, 'memory')}`,
    'bs=1M',
    `count=${USED_MIB}`,
    'status=none',
  ];
  await exec(['dd', ...fill]);
  const argv = [
    ...['qemu-system-x86_64', '-nodefaults', '-no-user-config', '-display', 'none', '-machine', 'q35'],
    ...['-accel', 'tcg,tb-size=16', '-m', `${GUEST_MIB}`, '-device', 'virtio-balloon-pci'],
    ...['-device', `loader,file=${join(folder, 'memory')},addr=0x2000000,force-raw=on`],
    ...['-qmp', `unix:${join(folder, 'qmp')},server=on,wait=off`],
  ];
  spawn('sh', ['-c', 'echo $$ >"$0/cgroup.procs" && exec "$@"', path, ...argv], { stdio: 'ignore' });
  await vi.waitUntil(
    () =>
      qmp.connect().then(
        () => true,
        () => false,
      ),
    { timeout: 20_000, interval: 20 },
  );
}, 120_000);

afterAll(async () => {
  for (const step of undo.reverse()) await step();
});

function power(availableBytes: number, assertRoomInSwap = async () => {}) {
  return suspendToSwap({
    ...{ qmp, cgroup, assertRoomInSwap, log: silentLog },
    // A guest without spare memory, or with some.
    vmAgent: { call: async () => ({ totalBytes: 0, availableBytes }) as never },
    rehearse: async () => {},
    workingSet: workingSet({
      ...{ vm: 'vm1', host, cgroup, runDir: folder, log: silentLog },
      program: join(root, 'build/working-set'),
    }),
  });
}

test('a paused VM leaves memory for swap, and runs again with all of it', async () => {
  const { switchOff, switchOn, woken } = power(0);
  const result = await switchOff('image', never);
  expect(result).toMatchObject({ off: true, method: 'swap' });
  expect(result.residentBeforeBytes).toBeGreaterThan(USED_MIB * MiB);
  expect(result.residentAfterBytes).toBeLessThan(64 * MiB);
  expect(await cgroup.swapped()).toBeGreaterThan(0.9 * USED_MIB * MiB);
  expect(await qmp.execute('query-status')).toMatchObject({ running: false });
  expect(await switchOff('image', never)).toMatchObject({ off: true }); // asked again after a crash
  await switchOn();
  expect(await qmp.execute('query-status')).toMatchObject({ running: true });
  await woken();
}, 60_000);

test('one that is wanted before it began stays as it is', async () => {
  expect(await power(0).switchOff('image', AbortSignal.abort())).toMatchObject({ off: false });
  expect(await qmp.execute('query-status')).toMatchObject({ running: true });
});

test('its host is asked for room for what the balloon can’t take', async () => {
  const asked: number[] = [];
  const askedFor = async (availableBytes: number) => {
    await power(availableBytes, (async (bytes: number) => void asked.push(bytes)) as never).admit?.(never);
    return asked.at(-1) ?? Number.NaN;
  };
  const resident = await cgroup.resident();
  expect(await askedFor(0)).toBeGreaterThan(0.9 * resident);
  expect(await askedFor(2 ** 40)).toBe(0);
});
