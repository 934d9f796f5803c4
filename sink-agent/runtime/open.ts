/** The runtime that the configuration names. Docker's client is loaded only where it is used: it takes memory. */
import { join } from 'node:path';
import type { Log } from '../../common/log.ts';
import type { SinkAgentConfig } from '../config.ts';
import { namespacesRuntime } from './namespaces.ts';
import type { SinkRuntime } from './runtime.ts';

export async function openRuntime(config: SinkAgentConfig, log: Log): Promise<SinkRuntime> {
  const { runtime, name, stateDir } = config;
  const { memoryMiB, pids } = runtime;
  if (runtime.type === 'namespaces')
    return namespacesRuntime(join(stateDir, 'mount-point'), { memoryMiB, pids });
  const { dockerRuntime } = await import('./docker/docker.ts');
  return dockerRuntime({ socket: runtime.socket, server: name, limits: { memoryMiB, pids }, log });
}
