/** Asks whoever sits at the terminal whether a host's key is the right one. */
import { createInterface } from 'node:readline/promises';
import type { ShownHostKey } from '../host/ssh/scan-host-key.ts';

/** False without a terminal: nobody can say yes there. */
export async function confirmHostKey(url: string, { hostKey, fingerprint }: ShownHostKey): Promise<boolean> {
  if (!process.stdin.isTTY) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    process.stderr.write(`${url} shows the host key\n  ${fingerprint}\n  ${hostKey}\n`);
    process.stderr.write('On its console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub\n');
    return (await terminal.question('Is that its key? [yes/no] ')).trim() === 'yes';
  } finally {
    terminal.close();
  }
}
