/** What makes a VM itself, whatever it runs on: files laid over the template's tree, and systemd credentials for the vm-agent. */
import { chmod, copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '../common/exec.ts';
import { vmAgentConfig } from './config.ts';
import { credentialPaths } from './pki.ts';
import type { LabPlan, MachinePlan, VmPlan } from './plan.ts';
import { clientKeyPath, hostKeyPath } from './ssh.ts';

/**
 * Host name, machine id, host keys, authorized keys.
 * @param further texts by path below /etc
 * @returns path of a tar
 */
export async function makeOwnFiles(
  lab: LabPlan,
  vm: MachinePlan,
  further: Record<string, string> = {},
): Promise<string> {
  const own = join(vm.directory, 'own');
  const write = async (path: string, text: string) => {
    await mkdir(join(own, path, '..'), { recursive: true });
    await writeFile(join(own, path), text);
  };
  await write('etc/hostname', `${vm.name}\n`);
  await write('etc/machine-id', `${crypto.randomUUID().replaceAll('-', '')}\n`);
  await write('etc/hosts', `127.0.0.1 localhost\n::1 localhost\n127.0.1.1 ${vm.name}\n`);
  for (const [path, text] of Object.entries(further)) await write(join('etc', path), text);
  await write('root/.ssh/authorized_keys', await readFile(`${clientKeyPath(lab)}.pub`, 'utf8'));
  await chmod(join(own, 'root/.ssh'), 0o700);
  await mkdir(join(own, 'etc/ssh'), { recursive: true });
  for (const suffix of ['', '.pub'])
    await copyFile(
      `${hostKeyPath(lab, vm.name)}${suffix}`,
      join(own, `etc/ssh/ssh_host_ed25519_key${suffix}`),
    );
  await chmod(join(own, 'root'), 0o700); // tar sets the modes of the folders it names
  const tar = join(vm.directory, 'files.tar');
  const options = ['--create', '--owner=0', '--group=0', `--directory=${own}`, `--file=${tar}`];
  await exec(['tar', ...options, 'etc', 'root']);
  await rm(own, { recursive: true });
  return tar;
}

/** The vm-agent's credentials by name, each the path of a file. */
export async function makeCredentials(lab: LabPlan, vm: VmPlan): Promise<Record<string, string>> {
  const config = join(vm.directory, 'vm-agent.json');
  await writeFile(config, JSON.stringify(vmAgentConfig(vm)));
  const { ca, cert, key } = credentialPaths(join(lab.runDirectory, 'pki'), vm.name);
  return {
    'seamless.config': config,
    'seamless.ca.crt': ca,
    'seamless.tls.crt': cert,
    'seamless.tls.key': key,
  };
}
