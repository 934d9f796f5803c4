/** What only a real hypervisor can show of switching off: to disk over a reboot, a guest under pressure, and cgroup v2 in a guest. */
import { readdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { exec } from '../../common/exec.ts';
import { planLab, planVms } from '../../lab/plan.ts';
import { cacheDirectory } from '../../template/store.ts';
import { awaitState, configure, kill, seamless, show, start } from './fixtures/admin.ts';
import { sharedStage } from './fixtures/shared-stage.ts';
import { expectServed, expectUnnoticed } from './fixtures/witness.ts';

const TEST_MS = 150_000;
const SETTLE_MS = 90_000;
const MiB = 1024 * 1024;
const MEMORY_MIB = 512;
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const GUEST_APP = '/usr/lib/seamless/app';
const GUEST_NODE = '/usr/lib/seamless/node';

const stage = sharedStage({ memoryMiB: MEMORY_MIB, workloadMiB: 64 });

afterEach(() => expectUnnoticed(stage()));

test('to disk: QEMU is gone and no memory left, also over a restart of the host; users wake it and notice a delay', {
  timeout: TEST_MS,
}, async () => {
  const { vm } = stage();
  await configure({ switchOff: 'disk' });
  await start('orchestrator');
  const { operation } = (await seamless('park', vm)).json;
  expect(operation).toMatchObject({ status: 'succeeded' });
  const asleep = await show(vm);
  expect(asleep).toMatchObject({
    state: 'parked',
    qemuStatus: 'saved',
    residentBytes: 0,
    hypervisorLost: null,
  });

  // What a reboot leaves of it: the file, but neither the cgroup nor whoever remembered.
  await kill('orchestrator');
  const { folder, cgroup } = places();
  await rmdir(cgroup);
  expect(await readdir(folder)).toContain(`${vm}.saved.json`);
  await start('orchestrator');
  expect(await show(vm)).toMatchObject({ state: 'parked', qemuStatus: 'saved', hypervisorLost: null });

  await expectServed(stage());
  await awaitState(vm, 'awake', SETTLE_MS);
  expect(await show(vm)).toMatchObject({ qemuStatus: 'running', hypervisorLost: null });
  expect(await readdir(folder)).not.toContain(`${vm}.memory`);
});

test('to disk, taken back by a user in the midst of it: the VM goes on', { timeout: TEST_MS }, async () => {
  const { vm } = stage();
  const parked = seamless('park', vm);
  const isOff = async () => (await show(vm)).lastPark?.steps.some(isSwitchingOff) ?? false;
  await expect.poll(isOff, { timeout: 60_000, interval: 20 }).toBe(true);
  await expectServed(stage());
  await parked;
  await awaitState(vm, 'awake', SETTLE_MS);
  expect(await show(vm)).toMatchObject({ qemuStatus: 'running', hypervisorLost: null });
});

test('a guest whose programs take memory while its balloon grows does not run out of it', {
  timeout: TEST_MS,
}, async () => {
  const { vm } = stage();
  await configure({ switchOff: 'swap' });
  await start('orchestrator');
  await stage().inVm(['systemd-run', '--quiet', '--collect', '--unit=hungry', 'perl', '-e', HUNGRY]);
  const { operation } = (await seamless('park', vm)).json;
  expect(operation).toMatchObject({ status: 'succeeded' });
  await expectServed(stage());
  await awaitState(vm, 'awake', SETTLE_MS);
  expect(await stage().inVm(['systemctl', 'is-active', 'hungry'])).toContain('active');
  const log = await stage()
    .inVm(['journalctl', '--dmesg', '--quiet', '--grep', 'Out of memory|oom-kill'])
    .catch(() => '');
  expect(log).not.toMatch(/Out of memory|oom-kill/);
  await stage().inVm(['systemctl', 'stop', 'hungry']);
});

test('cgroup v2, in the guest: pages go to swap by memory.reclaim and by memory.high, and no limit stays', {
  timeout: TEST_MS,
}, async () => {
  await copyToGuest(
    'orchestrator/hypervisor',
    'orchestrator/host',
    'common',
    'test/e2e/fixtures/cgroup-v2.ts',
  );
  const output = '/run/cgroup-v2.json';
  const unit = ['systemd-run', '--quiet', '--collect', '--unit=cgroup-v2'];
  const program = [GUEST_NODE, `${GUEST_APP}/test/e2e/fixtures/cgroup-v2.ts`];
  await stage().inVm([...unit, `--property=StandardOutput=file:${output}`, ...program]);
  // Emulated, and its swap on an emulated disk: on a busy machine longer than a command may take.
  const ended = () => stage().inVm(['sh', '-c', 'systemctl is-active cgroup-v2 || true']);
  await expect.poll(ended, { timeout: 120_000, interval: 500 }).toContain('inactive');
  const said = await stage().inVm(['cat', output]);
  const { byReclaim, byHigh, isAlone } = JSON.parse(said) as Record<'byReclaim' | 'byHigh', Squeezed> & {
    isAlone: boolean;
  };
  for (const { before, after, swapped, usage, high } of [byReclaim, byHigh]) {
    expect(before).toBeGreaterThan(45 * MiB);
    expect(after).toBeLessThan(24 * MiB);
    expect(swapped).toBeGreaterThan(30 * MiB);
    expect(usage).toBeLessThan(24 * MiB);
    expect(high).toBe('max');
  }
  expect(isAlone).toBe(true);
});

type Squeezed = { before: number; after: number; swapped: number; usage: number; high: string };

/** Takes 8 MiB more every quarter of a second, up to 160. */
const HUNGRY =
  'my @own; for (1..20) { push @own, "x" x (8 << 20); select(undef, undef, undef, 0.25) } sleep 3600';

function isSwitchingOff({ name, status }: { name: string; status: string }): boolean {
  return name === 'switchOff' && status === 'running';
}

function places(): { folder: string; cgroup: string } {
  const lab = planLab(process.env['SEAMLESS_LAB'], cacheDirectory(process.env));
  const [vm] = planVms(lab, [stage().vm], MEMORY_MIB);
  if (!vm) throw new Error('Expected a plan of the VM');
  return { folder: join(lab.diskDirectory, 'saved'), cgroup: vm.cgroup };
}

/** Beside the agent's own files, whose imports they share. */
async function copyToGuest(...paths: string[]): Promise<void> {
  const archive = await exec(['sh', '-c', 'cd "$0" && tar -cz "$@" | base64 -w0', ROOT, ...paths]);
  const unpack = 'echo "$0" | base64 -d | tar -xz --no-same-owner -C "$1"';
  await stage().inVm(['sh', '-c', unpack, archive.stdout, GUEST_APP]);
}
