/** The lab's own swap file, which switched-off VMs go to; the machine's other swap stays as it is. */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import type { LabPlan } from './plan.ts';

const SWAP_MIB = 2048;

export async function addSwap(lab: LabPlan, mebibytes = SWAP_MIB): Promise<void> {
  const file = swapPath(lab);
  await exec(['fallocate', '--length', `${mebibytes}MiB`, file]);
  await exec(['chmod', '600', file]);
  await exec(['mkswap', '--quiet', file]);
  try {
    await exec(['swapon', file]);
  } catch (cause) {
    throw new SeamlessError(
      'PREREQUISITE_MISSING',
      `can't swap to ${file}; set SEAMLESS_CACHE to a folder on ext4 or xfs (not overlay, tmpfs or btrfs)`,
      { cause },
    );
  }
}

/** Reading back what is swapped out takes a while when VMs still run: end them first. */
export async function removeSwap(lab: LabPlan): Promise<void> {
  const file = swapPath(lab);
  const active = (await readFile('/proc/swaps', 'utf8'))
    .split('\n')
    .some((line) => line.startsWith(`${file} `));
  if (active) await exec(['swapoff', file], { timeoutMs: 300_000 });
  await rm(file, { force: true });
}

function swapPath(lab: LabPlan): string {
  return join(lab.diskDirectory, 'swap');
}
