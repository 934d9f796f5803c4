/** The agent's configuration: a JSON file, by systemd's credentials from the hypervisor in the lab. */
import { readFileSync } from 'node:fs';
import { SeamlessError } from '../common/errors.ts';
import type { TlsFiles } from '../wire/tls.ts';

export interface AgentConfig {
  /** The VM's name; the agent's certificate says `vm-agent:NAME`. */
  vm: string;
  /** The management address and port. The agent listens nowhere else. */
  listen: { address: string; port: number };
  tls: TlsFiles;
}

const KEYS = { vm: 'a name', listen: '{address, port}', tls: '{ca, cert, key}' } as const;

/** Reads and checks the file at `path`; throws `CONFIG_INVALID` with everything that is wrong with it. */
export function readConfig(path: string): AgentConfig {
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  } catch (cause) {
    throw new SeamlessError('CONFIG_INVALID', `Expected JSON in ${path}, got: ${(cause as Error).message}`, {
      cause,
    });
  }
  const { vm, listen, tls } = value as Partial<{ vm: string; listen: AgentConfig['listen']; tls: TlsFiles }>;
  const problems = [
    ...Object.keys(value)
      .filter((key) => !(key in KEYS))
      .map((key) => `unknown key ${key}`),
    ...(isText(vm) ? [] : [`vm: expected ${KEYS.vm}`]),
    ...(isText(listen?.address) && Number.isInteger(listen?.port) ? [] : [`listen: expected ${KEYS.listen}`]),
    ...(isText(tls?.ca) && isText(tls?.cert) && isText(tls?.key)
      ? []
      : [`tls: expected ${KEYS.tls} as paths of PEM files`]),
  ];
  if (problems.length > 0) throw new SeamlessError('CONFIG_INVALID', `${path}: ${problems.join('; ')}`);
  return value as unknown as AgentConfig;
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}
