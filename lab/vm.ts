/**
 * One VM of the lab: what it is given at boot, and its QEMU in the hypervisor's namespace, in a cgroup of its own.
 *
 * All VMs of a template start from the same disk, unwritten; what makes one itself (name, keys, addresses, the agent's
 * configuration) comes by fw_cfg: files for the initramfs, credentials for systemd.
 */
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import { type TemplatePaths, templateDirectory, templatePaths } from '../template/store.ts';
import type { Accelerator } from './accelerator.ts';
import { vmAgentConfig } from './config.ts';
import { credentialPaths } from './pki.ts';
import { type LabPlan, namespacePath, type VmPlan } from './plan.ts';
import { type RunningProcess, startProcess, waitUntilReady } from './processes.ts';
import { clientKeyPath, hostKeyPath } from './ssh.ts';

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
const NO_OFFLOAD =
  'csum guest_csum gso guest_tso4 guest_tso6 guest_ecn guest_ufo host_tso4 host_tso6 host_ecn host_ufo'
    .split(' ')
    .map((feature) => `${feature}=off`)
    .join(',');

/** Makes the VM's disk and boot-time files and starts it. */
export async function startVm(lab: LabPlan, vm: VmPlan, accelerator: Accelerator): Promise<RunningProcess> {
  const template = templatePaths(templateDirectory(lab.cache, vm.template));
  await mkdir(vm.directory, { recursive: true, mode: 0o700 });
  await mkdir(lab.diskDirectory, { recursive: true });
  await exec(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', template.disk, vm.disk]);
  const files = await makeBootInput(lab, vm);
  await mkdir(vm.cgroup, { recursive: true });
  return startProcess({
    name: vm.name,
    argv: ['qemu-system-x86_64', ...qemuArguments(vm, template, accelerator, files)],
    netns: namespacePath(lab, 'hv'),
    log: join(vm.directory, 'qemu.log'),
    cgroup: vm.cgroup,
  });
}

/** Waits until the VM lets logins in. */
export async function waitForBoot(vm: VmPlan, running: RunningProcess, signal: AbortSignal): Promise<void> {
  const console = join(vm.directory, 'console.log');
  const probe = async () => {
    if (!existsSync(console)) return false;
    const text = await readFile(console, 'latin1');
    const panic = text.match(/Kernel panic.*/);
    if (panic)
      throw new SeamlessError('COMMAND_FAILED', `${vm.name}: ${panic[0]}; try again`, { details: { text } });
    return text.includes(READY_WORD);
  };
  await waitUntilReady({ running, log: join(vm.directory, 'qemu.log'), timeoutMs: BOOT_MS, signal, probe });
}

/** fw_cfg names → files. */
async function makeBootInput(lab: LabPlan, vm: VmPlan): Promise<Record<string, string>> {
  const own = join(vm.directory, 'own');
  const write = async (path: string, text: string) => {
    await mkdir(join(own, path, '..'), { recursive: true });
    await writeFile(join(own, path), text);
  };
  await write('etc/hostname', `${vm.name}\n`);
  await write('etc/machine-id', `${crypto.randomUUID().replaceAll('-', '')}\n`);
  await write('etc/hosts', `127.0.0.1 localhost\n::1 localhost\n127.0.1.1 ${vm.name}\n`);
  await write('root/.ssh/authorized_keys', await readFile(`${clientKeyPath(lab)}.pub`, 'utf8'));
  await chmod(join(own, 'root/.ssh'), 0o700);
  await mkdir(join(own, 'etc/ssh'));
  for (const suffix of ['', '.pub'])
    await copyFile(
      `${hostKeyPath(lab, vm.name)}${suffix}`,
      join(own, `etc/ssh/ssh_host_ed25519_key${suffix}`),
    );
  const tar = join(vm.directory, 'files.tar');
  await chmod(join(own, 'root'), 0o700); // tar sets the modes of the folders it names
  await exec([
    'tar',
    '--create',
    '--owner=0',
    '--group=0',
    `--directory=${own}`,
    `--file=${tar}`,
    'etc',
    'root',
  ]);
  await rm(own, { recursive: true });
  const network = join(vm.directory, 'network');
  const { production, management } = vm;
  await writeFile(
    network,
    `${production.mac} ${production.addresses.join(' ')}\n${management.mac} ${management.address}/24\n`,
  );
  const config = join(vm.directory, 'vm-agent.json');
  await writeFile(config, JSON.stringify(vmAgentConfig(vm)));
  const { ca, cert, key } = credentialPaths(join(lab.runDirectory, 'pki'), vm.name);
  const credential = (name: string) => `opt/io.systemd.credentials/seamless.${name}`;
  return {
    'opt/seamless/files': tar,
    'opt/seamless/network': network,
    [credential('config')]: config,
    [credential('ca.crt')]: ca,
    [credential('tls.crt')]: cert,
    [credential('tls.key')]: key,
  };
}

function qemuArguments(
  vm: VmPlan,
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
    ['-append', KERNEL_ARGUMENTS],
    ['-drive', `if=none,id=disk,file=${vm.disk},format=qcow2,discard=unmap`],
    ['-device', 'virtio-blk-pci,drive=disk'],
    ['-netdev', `tap,id=production,ifname=${production.tap},script=no,downscript=no`],
    ['-device', `virtio-net-pci,id=net0,netdev=production,mac=${production.mac},romfile=,${NO_OFFLOAD}`],
    ['-netdev', `tap,id=management,ifname=${management.tap},script=no,downscript=no`],
    ['-device', `virtio-net-pci,id=net1,netdev=management,mac=${management.mac},romfile=`],
    ['-device', 'virtio-balloon-pci,id=balloon0,free-page-reporting=on'],
    ['-serial', `file:${join(directory, 'console.log')}`],
    // A QMP socket serves one client at a time: the first is the orchestrator's, the second for whoever looks.
    ['-qmp', `unix:${join(directory, 'qmp.sock')},server=on,wait=off`],
    ['-qmp', `unix:${join(directory, 'monitor.sock')},server=on,wait=off`],
  ];
  for (const [name, file] of Object.entries(files)) options.push(['-fw_cfg', `name=${name},file=${file}`]);
  return ['-nodefaults', '-no-user-config', '-display', 'none', ...options.flat()];
}
