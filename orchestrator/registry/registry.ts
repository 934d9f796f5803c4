/**
 * The hosts and sink servers that were added by command (`seamless host add`, `seamless sink add`): `registry.json` in the state
 * folder, read beside the configuration at each start and by the same schema. Written whole, beside the old one, and durable before
 * the command answers. The configuration file is the operator's alone and is never written.
 */
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SeamlessError } from '../../common/errors.ts';

/** As in the configuration, which checks it. */
export interface Registry<Host = unknown, Sink = unknown> {
  hosts: Host[];
  sinks: Sink[];
}

const FORMAT = 1;

export function registryPath(stateDir: string): string {
  return join(stateDir, 'registry.json');
}

/** Empty when there is none yet; throws `CONFIG_INVALID` for what is no registry of this format. */
export function readRegistry(stateDir: string): Registry {
  const path = registryPath(stateDir);
  if (!existsSync(path)) return { hosts: [], sinks: [] };
  let value: Partial<Registry> & { format?: number };
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new SeamlessError('CONFIG_INVALID', `Expected JSON in ${path}, got ${(cause as Error).message}`, {
      cause,
    });
  }
  const { format, hosts, sinks } = value ?? {};
  if (format === FORMAT && Array.isArray(hosts) && Array.isArray(sinks)) return { hosts, sinks };
  throw new SeamlessError(
    'CONFIG_INVALID',
    `Expected hosts and sinks of format ${FORMAT} in ${path}, got format ${format}`,
  );
}

export function writeRegistry(stateDir: string, { hosts, sinks }: Registry): void {
  const path = registryPath(stateDir);
  const file = openSync(`${path}.new`, 'w', 0o600);
  try {
    writeSync(file, `${JSON.stringify({ format: FORMAT, hosts, sinks }, null, 2)}\n`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(`${path}.new`, path);
  const folder = openSync(dirname(path), 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
