/** Suspend-to-disk with a real QEMU, which has a disk, a balloon and a BIOS but no guest: each crash, each refusal. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { open, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { silentLog } from '../../../common/log.ts';
import { localHost } from '../../../orchestrator/host/local.ts';
import { memoryCgroup } from '../../../orchestrator/hypervisor/memory-cgroup.ts';
import { qemuProcess } from '../../../orchestrator/hypervisor/qemu-process.ts';
import { Qmp } from '../../../orchestrator/hypervisor/qmp.ts';
import { savedState } from '../../../orchestrator/suspend/saved-state.ts';
import { suspendToDisk } from '../../../orchestrator/suspend/suspend-to-disk.ts';

const root = join(import.meta.dirname, '../../..');
const program = join(root, 'build/state-file');
const v1 = existsSync('/sys/fs/cgroup/memory/memory.limit_in_bytes');
const cgroupFolder = join(
  v1 ? '/sys/fs/cgroup/memory' : '/sys/fs/cgroup',
  `seamless-test-disk-${process.pid}`,
);
const never = new AbortController().signal;
const BIOS_DATA = 0x400;
const BIOS_DATA_BYTES = 0x60;
/** Kilobytes below the first megabyte: the BIOS counts them once. */
const MEMORY_SIZE_AT = 0x13;

let folder: string;
let vm: ReturnType<typeof setUp>;
let undo: (() => Promise<unknown> | void)[] = [];

beforeAll(async () => {
  await exec([join(root, 'scripts/build-helpers')], { timeoutMs: 110_000 });
}, 120_000);

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'seamless-disk-'));
  await exec(['qemu-img', 'create', '-q', '-f', 'qcow2', join(folder, 'disk'), '64M']);
  mkdirSync(cgroupFolder);
  vm = setUp();
  spawn('sh', ['-c', 'echo $$ >"$0/cgroup.procs" && exec "$@"', cgroupFolder, ...start()], {
    stdio: 'ignore',
  });
  await vi.waitUntil(async () => (await status().catch(() => '')) === 'running', {
    timeout: 20_000,
    interval: 20,
  });
  await vi.waitUntil(async () => (await biosData()).readUInt16LE(MEMORY_SIZE_AT) > 0, {
    timeout: 20_000,
    interval: 20,
  });
}, 45_000);

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
  for (const pid of await vm.cgroup.processes()) process.kill(pid, 'SIGKILL');
  vm.qmp.close();
  await vi.waitUntil(async () => (await vm.cgroup.processes()).length === 0, { timeout: 5000, interval: 10 });
  await vi.waitFor(() => rmdirSync(cgroupFolder), { timeout: 5000, interval: 20 });
  rmSync(folder, { recursive: true, force: true });
});

test('its memory goes to a file and comes back as it was; each way may be asked for twice', async () => {
  await remember(0xab);
  const before = await biosData();
  const first = await vm.disk.switchOff('image', never);
  expect(first).toMatchObject({ off: true, method: 'disk', residentAfterBytes: 0 });
  expect(first.residentBeforeBytes).toBeGreaterThan(2 ** 20);
  expect(await vm.cgroup.processes()).toEqual([]);
  expect(await vm.disk.away()).toBe(true);
  expect(await vm.disk.switchOff('image', never)).toMatchObject({ off: true });

  await vm.disk.switchOn();
  expect(await status()).toBe('running');
  expect(await vm.disk.away()).toBe(false);
  expect(await remembered()).toBe(0xab);
  expect((await biosData()).readUInt16LE(MEMORY_SIZE_AT)).toBe(before.readUInt16LE(MEMORY_SIZE_AT));
  const pids = await vm.cgroup.processes();
  await vm.disk.switchOn();
  expect(await vm.cgroup.processes()).toEqual(pids);
  await vm.disk.woken();
  expect(existsSync(file('memory'))).toBe(false);
}, 60_000);

test('a service that died when all was saved finds QEMU, and ends it or wakes it as is asked', async () => {
  await savedButNotEnded();
  expect(await vm.disk.switchOff('image', never)).toMatchObject({ off: true });
  expect(await vm.cgroup.processes()).toEqual([]);
  await vm.disk.switchOn();

  await savedButNotEnded();
  const [pid] = await vm.cgroup.processes();
  await vm.disk.switchOn();
  expect(await status()).toBe('running');
  expect(await vm.cgroup.processes()).toEqual([pid]);
  expect(await vm.disk.away()).toBe(false);
}, 60_000);

test('a loading that was interrupted begins again, and is taken back when the VM is not wanted any more', async () => {
  await remember(0x5a);
  await vm.disk.switchOff('image', never);
  await vm.qemu.start(vm.saved); // and there the service died
  expect(await status()).toBe('inmigrate');
  expect(await vm.disk.switchOff('image', never)).toMatchObject({ off: true });
  expect(await vm.cgroup.processes()).toEqual([]);
  await vm.qemu.start(vm.saved);
  await vm.disk.switchOn();
  expect(await status()).toBe('running');
  expect(await remembered()).toBe(0x5a);
}, 60_000);

test('a disk that is full leaves the VM awake, with the reason and nothing of the file', async () => {
  const small = join(folder, 'saved');
  mkdirSync(small);
  await exec(['mount', '-t', 'tmpfs', '-o', 'size=256k', 'seamless-test', small]);
  undo.push(() => exec(['umount', small]));
  await expect(vm.disk.switchOff('image', never)).rejects.toMatchObject({ code: 'HOST_DISK_FULL' });
  expect(await status()).toBe('running');
  // What looks like room need not be: the write itself is what counts.
  const optimist = setUp({ room: 2 ** 40 }, vm);
  await expect(optimist.disk.switchOff('image', never)).rejects.toMatchObject({
    code: 'HOST_DISK_FULL',
    message: expect.stringContaining('No space left on device'),
  });
  expect(await status()).toBe('running');
  expect(await vm.disk.away()).toBe(false);
  expect(existsSync(file('memory.partial'))).toBe(false);
}, 60_000);

test('a VM that is wanted while its memory is being saved runs on', async () => {
  const wanted = new AbortController();
  const hurried = setUp({ onListen: () => wanted.abort() }, vm);
  expect(await hurried.disk.switchOff('image', wanted.signal)).toMatchObject({ off: false });
  expect(await status()).toBe('running');
  expect(await vm.disk.away()).toBe(false);
}, 60_000);

test('a damaged file never becomes a VM, and is kept', async () => {
  await vm.disk.switchOff('image', never);
  const handle = await open(file('memory'), 'r+');
  await handle.write(Buffer.from('damage'), 0, 6, 4096);
  await handle.close();
  await expect(vm.disk.switchOn()).rejects.toMatchObject({ code: 'IMAGE_CORRUPT' });
  expect(await vm.cgroup.processes()).toEqual([]);
  expect(await vm.disk.away()).toBe(true);
  expect(existsSync(file('memory'))).toBe(true);
}, 60_000);

test('memory that is older than its disk is refused', async () => {
  await vm.disk.switchOff('image', never);
  await utimes(join(folder, 'disk'), new Date(), new Date());
  await expect(vm.disk.switchOn()).rejects.toMatchObject({
    code: 'STATE_STALE',
    message: expect.stringContaining(join(folder, 'disk')),
  });
  expect(await vm.cgroup.processes()).toEqual([]);
  expect(await vm.disk.away()).toBe(true);
}, 60_000);

test('there is never a second QEMU', async () => {
  await expect(vm.qemu.start(vm.saved)).rejects.toMatchObject({
    message: expect.stringContaining('got one'),
  });
  await vm.disk.switchOff('image', never);
  // Two that look at the same moment: the lock lets one in.
  const results = await Promise.allSettled([vm.qemu.start(vm.saved), vm.qemu.start(vm.saved)]);
  expect(results.map(({ status: how }) => how).sort()).toEqual(['fulfilled', 'rejected']);
  expect(await vm.cgroup.processes()).toHaveLength(1);
  await vm.disk.switchOn();
}, 60_000);

test('with neither QEMU nor file it says so, and starts nothing', async () => {
  const [pid] = await vm.cgroup.processes();
  process.kill(pid as number, 'SIGKILL');
  await vi.waitUntil(async () => (await vm.cgroup.processes()).length === 0, { timeout: 5000, interval: 10 });
  await expect(vm.disk.switchOn()).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
  expect(await vm.cgroup.processes()).toEqual([]);
}, 60_000);

interface Odd {
  /** What the folder claims to have room for. */
  room?: number;
  onListen?: () => void;
}

/** @param other whose connection is shared: QEMU serves one */
function setUp(odd: Odd = {}, other?: { qmp: Qmp }) {
  const host = localHost();
  const cgroup = memoryCgroup(host, cgroupFolder);
  const connect = (signal: AbortSignal) => host.connect(join(folder, 'qmp'), signal);
  const qmp = other?.qmp ?? new Qmp({ name: 'vm1', connect });
  const real = savedState(host, 'vm1', join(folder, 'saved'), program);
  const { room, onListen } = odd;
  const saved = {
    ...real,
    ...(room === undefined ? {} : { room: async () => room }),
    listen: () => real.listen().then(onListen),
  };
  const qemu = qemuProcess({ vm: 'vm1', qmp, host, cgroup, cgroupFolder, start: start() });
  // A guest that has nothing to spare.
  const vmAgent = { call: async () => ({ totalBytes: 0, availableBytes: 0 }) as never };
  const disk = suspendToDisk({ vm: 'vm1', qmp, cgroup, vmAgent, saved, qemu, log: silentLog });
  return { qmp, cgroup, saved, qemu, disk };
}

function start(): string[] {
  return [
    ...['qemu-system-x86_64', '-nodefaults', '-no-user-config', '-display', 'none'],
    ...['-machine', 'q35', '-accel', 'tcg', '-m', '64', '-device', 'virtio-balloon-pci'],
    ...['-drive', `if=none,id=disk,file=${join(folder, 'disk')},format=qcow2`],
    ...['-device', 'virtio-blk-pci,drive=disk', '-qmp', `unix:${join(folder, 'qmp')},server=on,wait=off`],
  ];
}

/** The state in which a crash between the claim and `quit` leaves things. */
async function savedButNotEnded(): Promise<void> {
  const interrupted = suspendToDisk({
    ...{ vm: 'vm1', qmp: vm.qmp, cgroup: vm.cgroup, saved: vm.saved, log: silentLog },
    vmAgent: { call: async () => ({ availableBytes: 0 }) as never },
    qemu: { ...vm.qemu, end: () => Promise.reject(new Error('the service dies here')) },
  });
  await expect(interrupted.switchOff('image', never)).rejects.toThrow('dies here');
  expect(await vm.disk.away()).toBe(true);
  expect(await status()).toBe('postmigrate');
}

function file(suffix: string): string {
  return join(folder, 'saved', `vm1.${suffix}`);
}

async function status(): Promise<string> {
  return (await vm.qmp.execute<{ status: string }>('query-status')).status;
}

/** A byte of the clock's memory, which is a device's state. The BIOS uses the same two registers, so it must stand still. */
async function remember(byte: number): Promise<void> {
  await stopped(async () => {
    await monitor('o/b 0x70 0x60');
    await monitor(`o/b 0x71 ${byte}`);
  });
}

function remembered(): Promise<number> {
  return stopped(async () => {
    await monitor('o/b 0x70 0x60');
    return Number(/= (0x[0-9a-f]+)/.exec(await monitor('i/b 0x71'))?.[1]);
  });
}

async function stopped<T>(work: () => Promise<T>): Promise<T> {
  await vm.qmp.execute('stop');
  const result = await work();
  await vm.qmp.execute('cont');
  return result;
}

function monitor(line: string): Promise<string> {
  return vm.qmp.execute<string>('human-monitor-command', { 'command-line': line });
}

/** What the BIOS has written into memory; a QEMU that waits for its memory has nothing there. */
async function biosData(): Promise<Buffer> {
  const filename = join(folder, 'bios-data');
  writeFileSync(filename, '');
  await vm.qmp.execute('pmemsave', { val: BIOS_DATA, size: BIOS_DATA_BYTES, filename });
  return readFileSync(filename);
}
