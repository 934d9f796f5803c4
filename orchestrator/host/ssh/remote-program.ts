/**
 * Puts a program of ours on a host. It lies there under a name that holds its contents' hash: one that is there is the
 * right one, and two orchestrators of different versions don't disturb each other.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { HostTransport } from '../transport.ts';
import type { RemoteFiles } from './remote-files.ts';

/** Not below /run, where nothing may be executed on Debian. */
const FOLDER = '/var/lib/seamless/bin';

/** Gives its path on the host. */
export async function installProgram(
  program: string,
  files: RemoteFiles,
  run: HostTransport['run'],
): Promise<string> {
  const content = await readFile(program);
  const hash = createHash('sha256').update(content).digest('hex').slice(0, 16);
  const path = `${FOLDER}/${basename(program)}-${hash}`;
  if (await files.exists(path)) return path;
  const half = `${path}.${randomBytes(4).toString('hex')}`;
  await run(['mkdir', '-p', FOLDER]);
  try {
    await files.write(half, content);
    await run(['chmod', '755', half]);
    await run(['mv', '-f', half, path]);
  } catch (error) {
    await run(['rm', '-f', half]).catch(() => {});
    throw error;
  }
  return path;
}
