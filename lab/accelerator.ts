/**
 * Whether KVM really runs a guest here. /dev/kvm may exist and a kernel still not boot on it (nested, restricted), so the
 * template's own kernel is asked: its initramfs says a word when told `seamless.probe`. The answer is kept until the machine
 * is booted again.
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { exec } from '../common/exec.ts';
import type { TemplatePaths } from '../template/store.ts';

export type Accelerator = 'kvm' | 'tcg';

const WORD = 'SEAMLESS-PROBE-OK';
const PROBE_MS = 6000;

export async function chooseAccelerator(cache: string, template: TemplatePaths): Promise<Accelerator> {
  if (!existsSync('/dev/kvm')) return 'tcg';
  const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  const file = join(cache, 'accelerator.json');
  const kept = await readFile(file, 'utf8').then(
    (text) => JSON.parse(text) as { boot?: string; accelerator?: Accelerator },
    () => ({}) as { boot?: string; accelerator?: Accelerator },
  );
  if (kept.boot === boot && kept.accelerator) return kept.accelerator;
  const accelerator = (await bootsOnKvm(template)) ? 'kvm' : 'tcg';
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, JSON.stringify({ boot, accelerator }));
  return accelerator;
}

async function bootsOnKvm(template: TemplatePaths): Promise<boolean> {
  try {
    const { stdout } = await exec(
      [
        'qemu-system-x86_64',
        ...'-nodefaults -no-user-config -display none -no-reboot -machine q35,accel=kvm -cpu host -m 256'.split(
          ' ',
        ),
        '-kernel',
        template.kernel,
        '-initrd',
        template.initramfs,
        '-append',
        'console=ttyS0 panic=-1 seamless.probe',
        '-serial',
        'stdio',
      ],
      { timeoutMs: PROBE_MS },
    );
    return stdout.includes(WORD);
  } catch {
    return false; // ended by the deadline, or refused by KVM: the same answer
  }
}
