/**
 * One VM of the lab: what it is given at boot, and its QEMU in the hypervisor's namespace, in a cgroup of its own.
 *
 * All VMs of a template start from the same disk, unwritten; what makes one itself (name, keys, addresses, the agent's
 * configuration) comes by fw_cfg: files for the initramfs, credentials for systemd.
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import { type TemplatePaths, templateDirectory, templatePaths } from '../template/store.ts';
import type { Accelerator } from './accelerator.ts';
import { startNativeVm } from './native-vm.ts';
import type { SwitchHost } from './open-vswitch.ts';
import { makeCredentials, makeOwnFiles } from './own-files.ts';
import { type LabPlan, type MachinePlan, namespacePath, qmpSockets, type VmPlan } from './plan.ts';
import { type RunningProcess, startProcess, waitUntilReady } from './processes.ts';

/** Printed on the console by the template's seamless-ready.service: sshd listens and logins are let in. */
const READY_WORD = 'SEAMLESS-READY';
const BOOT_MS = 180_000;
/** Of QEMU's translated code; its default, a gigabyte, would outweigh the VM. */
const TCG_CACHE_MIB = 256;
/**
 * Everything that TCG knows but cmpxchg16b: QEMU 7.2 leaves garbage in the flags after it (its helper reads a stale cc_op), and an interrupt
 * at the next instruction is the guest kernel's double fault. Linux' allocator uses it on every allocation when it is there.
 */
const TCG_CPU = 'max,-cx16';
/** lsm= without bpf: systemd would load a program for it at each boot, which takes a second under emulation. */
const KERNEL_ARGUMENTS =
  'console=ttyS0 quiet root=/dev/vda rw systemd.show_status=0 lsm=landlock,yama,apparmor audit=0 mitigations=off';
/**
 * At randomized addresses QEMU 7.2 translates a program and its libraries anew each time it is started: the monitor's `info jit` counts
 * 200 MiB of new code for a single wake, and 3 MiB without.
 */
const TCG_KERNEL_ARGUMENTS = 'norandmaps';
const NO_OFFLOAD =
  'csum guest_csum gso guest_tso4 guest_tso6 guest_ecn guest_ufo host_tso4 host_tso6 host_ecn host_ufo'
    .split(' ')
    .map((feature) => `${feature}=off`)
    .join(',');

export type Command = readonly [string, ...string[]];

/** Makes the VM's disk and boot-time files. @returns the command that is its QEMU; null for a native VM */
export async function prepareVm(
  lab: LabPlan,
  vm: VmPlan,
  accel: Accelerator | 'native',
): Promise<Command | null> {
  await mkdir(vm.directory, { recursive: true, mode: 0o700 });
  await mkdir(lab.diskDirectory, { recursive: true });
  return accel === 'native' ? null : machineCommand(lab, vm, accel, await makeCredentials(lab, vm));
}

/**
 * @param credentials for its systemd: files by their names
 * @param own texts by path below /etc, see makeOwnFiles
 * @returns the command that is its QEMU
 */
export async function machineCommand(
  lab: LabPlan,
  vm: MachinePlan,
  accel: Accelerator,
  credentials: Record<string, string>,
  own: Record<string, string> = {},
): Promise<Command> {
  await mkdir(vm.directory, { recursive: true, mode: 0o700 });
  await mkdir(lab.diskDirectory, { recursive: true });
  const template = templatePaths(templateDirectory(lab.cache, vm.template));
  await exec(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', template.disk, vm.disk]);
  const files = await makeBootInput(lab, vm, credentials, own);
  return ['qemu-system-x86_64', ...qemuArguments(vm, template, accel, files)];
}

/** Starts a VM that was prepared. @returns its process first, then what serves it. */
export async function startVm(
  lab: LabPlan,
  vm: VmPlan,
  command: Command | null,
): Promise<[RunningProcess, ...RunningProcess[]]> {
  return command ? [await startMachine(lab, vm, command, 'hv')] : startNativeVm(lab, vm);
}

export async function startMachine(
  lab: LabPlan,
  vm: MachinePlan,
  argv: Command,
  host: SwitchHost,
): Promise<RunningProcess> {
  await mkdir(vm.cgroup, { recursive: true });
  return startProcess({
    name: vm.name,
    argv,
    netns: namespacePath(lab, host),
    log: join(vm.directory, 'machine.log'),
    cgroups: [vm.cgroup],
  });
}

/** Waits until the VM lets logins in. */
export async function waitForBoot(
  vm: MachinePlan,
  running: RunningProcess,
  signal: AbortSignal,
): Promise<void> {
  const console = join(vm.directory, 'console.log');
  const probe = async () => {
    if (!existsSync(console)) return false;
    const text = await readFile(console, 'latin1');
    const panic = text.match(/Kernel panic.*/);
    if (panic)
      throw new SeamlessError('COMMAND_FAILED', `${vm.name}: ${panic[0]}; try again`, { details: { text } });
    return text.includes(READY_WORD);
  };
  await waitUntilReady({
    running,
    log: join(vm.directory, 'machine.log'),
    timeoutMs: BOOT_MS,
    signal,
    probe,
  });
}

/** fw_cfg names → files. */
async function makeBootInput(
  lab: LabPlan,
  vm: MachinePlan,
  credentials: Record<string, string>,
  own: Record<string, string>,
): Promise<Record<string, string>> {
  const files = await makeOwnFiles(lab, vm, own);
  const network = join(vm.directory, 'network');
  const { production, management } = vm;
  await writeFile(
    network,
    `${production.mac} ${production.addresses.join(' ')}\n${management.mac} ${management.address}/24\n`,
  );
  return {
    'opt/seamless/files': files,
    'opt/seamless/network': network,
    ...Object.fromEntries(
      Object.entries(credentials).map(([name, file]) => [`opt/io.systemd.credentials/${name}`, file]),
    ),
  };
}

function qemuArguments(
  vm: MachinePlan,
  template: TemplatePaths,
  accelerator: Accelerator,
  files: Record<string, string>,
): string[] {
  const { production, management, directory } = vm;
  const options: [string, string][] = [
    ['-name', vm.name],
    ['-machine', 'q35,hpet=off'],
    ['-accel', accelerator === 'kvm' ? 'kvm' : `tcg,tb-size=${TCG_CACHE_MIB}`],
    ['-cpu', accelerator === 'kvm' ? 'host' : TCG_CPU],
    ['-m', `${vm.memoryMiB}`],
    ['-kernel', template.kernel],
    ['-initrd', template.initramfs],
    ['-append', accelerator === 'kvm' ? KERNEL_ARGUMENTS : `${KERNEL_ARGUMENTS} ${TCG_KERNEL_ARGUMENTS}`],
    ['-drive', `if=none,id=disk,file=${vm.disk},format=qcow2,discard=unmap`],
    ['-device', 'virtio-blk-pci,drive=disk'],
    ['-netdev', `tap,id=production,ifname=${production.tap},script=no,downscript=no`],
    ['-device', `virtio-net-pci,id=net0,netdev=production,mac=${production.mac},romfile=,${NO_OFFLOAD}`],
    ['-netdev', `tap,id=management,ifname=${management.tap},script=no,downscript=no`],
    ['-device', `virtio-net-pci,id=net1,netdev=management,mac=${management.mac},romfile=`],
    ['-device', 'virtio-balloon-pci,id=balloon0,free-page-reporting=on,deflate-on-oom=on'],
    ['-serial', `file:${join(directory, 'console.log')}`],
    ...qmpSockets(vm).map((path): [string, string] => ['-qmp', `unix:${path},server=on,wait=off`]),
  ];
  for (const [name, file] of Object.entries(files)) options.push(['-fw_cfg', `name=${name},file=${file}`]);
  return ['-nodefaults', '-no-user-config', '-display', 'none', ...options.flat()];
}
