/** The orchestrator's own ssh key, made when the first host is added that names none. */
import { existsSync, mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { exec } from '../../common/exec.ts';

/** @returns its path, and the line for `authorized_keys` on the hosts */
export async function accountKey(stateDir: string): Promise<{ keyFile: string; publicKey: string }> {
  const keyFile = join(stateDir, 'ssh/id_ed25519');
  if (!existsSync(keyFile)) {
    mkdirSync(dirname(keyFile), { recursive: true, mode: 0o700 });
    await exec(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'seamless', '-f', keyFile]);
  }
  return { keyFile, publicKey: (await readFile(`${keyFile}.pub`, 'utf8')).trim() };
}
