/**
 * The lab's hosts as hosts elsewhere (`lab up --transport ssh`): each namespace runs an sshd with a key of its own, and
 * the orchestrator has an account there. Their file system is the machine's, as with the local transport.
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '../common/exec.ts';
import type { SwitchHost } from './open-vswitch.ts';
import { type LabPlan, MANAGEMENT, namespacePath } from './plan.ts';
import { type RunningProcess, startProcess, waitUntilReady } from './processes.ts';

const READY_MS = 10_000;

/** Makes keys unless they are there, starts sshd, and gives the transport for the orchestrator's configuration. */
export async function startHostSsh(
  lab: LabPlan,
  host: SwitchHost,
  started: (process: RunningProcess) => void,
  signal: AbortSignal,
) {
  const folder = join(lab.runDirectory, `sshd-${host}`);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await mkdir('/run/sshd', { recursive: true, mode: 0o755 }); // sshd insists; its unit makes it elsewhere
  const [hostKey, client] = await Promise.all([makeKey(folder, 'host'), makeKey(folder, 'orchestrator')]);
  await writeFile(join(folder, 'authorized_keys'), client.public);
  await writeFile(join(folder, 'config'), sshdConfig(folder, MANAGEMENT[host]));
  const log = join(folder, 'log');
  const running = startProcess({
    name: `sshd of ${host}`,
    argv: ['/usr/sbin/sshd', '-D', '-e', '-f', join(folder, 'config')],
    netns: namespacePath(lab, host),
    log,
  });
  started(running);
  const listens = ['nsenter', `--net=${namespacePath(lab, host)}`, 'ss', '-Hltn', 'src'] as const;
  await waitUntilReady({
    ...{ running, log, timeoutMs: READY_MS, signal },
    probe: async () => (await exec([...listens, `${MANAGEMENT[host]}:22`])).stdout !== '',
  });
  return {
    type: 'ssh' as const,
    address: MANAGEMENT[host],
    keyFile: client.path,
    hostKey: hostKey.public.trim(),
  };
}

async function makeKey(folder: string, name: string) {
  const path = join(folder, name);
  if (!existsSync(path)) await exec(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', path]);
  return { path, public: await readFile(`${path}.pub`, 'utf8') };
}

/** As docs/hosts.md asks for it. */
function sshdConfig(folder: string, address: string): string {
  return `ListenAddress ${address}
HostKey ${folder}/host
AuthorizedKeysFile ${folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowStreamLocalForwarding yes
ClientAliveInterval 5
ClientAliveCountMax 3
# So that bash does not read .bashrc for each command.
SetEnv SHLVL=1
Subsystem sftp /usr/lib/openssh/sftp-server
`;
}
