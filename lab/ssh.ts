/**
 * The lab's ssh key, the VMs' host keys, and a client configuration that knows both, in RUN/ssh:
 * `ssh -F RUN/ssh/config vm1` from the client's namespace, `vm1.mgmt` from the management's.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '../common/exec.ts';
import type { LabPlan, MachinePlan } from './plan.ts';

export function sshConfigPath(lab: LabPlan): string {
  return join(lab.runDirectory, 'ssh/config');
}

/** Path of the private host key of `vm`; the public one is beside it with `.pub`. */
export function hostKeyPath(lab: LabPlan, vm: string): string {
  return join(lab.runDirectory, 'ssh', `host-${vm}`);
}

export function clientKeyPath(lab: LabPlan): string {
  return join(lab.runDirectory, 'ssh/id_ed25519');
}

export async function makeSshKeys(lab: LabPlan, vms: readonly MachinePlan[]): Promise<void> {
  const folder = join(lab.runDirectory, 'ssh');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await makeKey(clientKeyPath(lab), 'seamless-lab');
  const known: string[] = [];
  for (const vm of vms) {
    await makeKey(hostKeyPath(lab, vm.name), vm.name);
    const key = (await readFile(`${hostKeyPath(lab, vm.name)}.pub`, 'utf8')).trim();
    const names = [vm.name, `${vm.name}.mgmt`, ...plainAddresses(vm), vm.management.address];
    known.push(`${names.join(',')} ${key}\n`);
  }
  await writeFile(join(folder, 'known_hosts'), known.join(''));
  await writeFile(sshConfigPath(lab), sshConfig(folder, vms));
}

function sshConfig(folder: string, vms: readonly MachinePlan[]): string {
  const hosts = vms.flatMap((vm) => [
    `Host ${vm.name}\n  HostName ${plainAddresses(vm)[0]}\n`,
    `Host ${vm.name}.mgmt\n  HostName ${vm.management.address}\n`,
  ]);
  return `${hosts.join('')}Host *
  User root
  IdentityFile ${folder}/id_ed25519
  IdentitiesOnly yes
  UserKnownHostsFile ${folder}/known_hosts
  StrictHostKeyChecking yes
  CheckHostIP no
  BatchMode yes
  GSSAPIAuthentication no
  PreferredAuthentications publickey
`;
}

function plainAddresses(vm: MachinePlan): string[] {
  return vm.production.addresses.map((address) => address.split('/')[0] ?? address);
}

async function makeKey(path: string, comment: string): Promise<void> {
  await exec(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', comment, '-f', path]);
}
