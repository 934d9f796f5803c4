/** The agent's calls, answered by its sinks. */
import { readFile } from 'node:fs/promises';
import type { RpcHandlers } from '../wire/rpc-server.ts';
import type { SinkAgentApi } from './api.ts';
import type { Registry } from './registry.ts';
import { packetFilter } from './sandbox/packet-rules.ts';
import type { TemplateStore } from './templates.ts';

export function createHandlers(
  name: string,
  registry: Registry,
  templates: TemplateStore,
  limits: readonly string[],
): RpcHandlers<SinkAgentApi> {
  return {
    async describe() {
      const known = await templates.list();
      const versions = await Promise.all(known.map((template) => templates.criuVersion(template)));
      return {
        name,
        templateIds: [...new Set(known.map(({ id }) => id))], // two names may have the same tree
        criuVersion: versions[0] ?? '',
        packetFilter: await packetFilter(),
        limits: [...limits],
        memoryAvailableBytes: await memoryAvailable(),
        sinks: registry.list(),
      };
    },
    async checkCriu() {
      const problems = await Promise.all(
        (await templates.list()).map((template) => templates.criuProblems(template)),
      );
      return { problems: [...new Set(problems.flat())] };
    },
    prepare: (params) => registry.prepare(params),
    receive: async ({ vm, imageId }) => registry.get(vm).receive(imageId),
    restore: async ({ vm, imageId }) => registry.get(vm).restore(imageId),
    run: async ({ vm }) => registry.get(vm).run(),
    freeze: async ({ vm }) => registry.get(vm).freeze(),
    checkpoint: async ({ vm, imageId, andSend }) => registry.get(vm).checkpoint(imageId, andSend === true),
    send: async ({ vm, imageId }) => registry.get(vm).send(imageId),
    rehearse: async ({ vm }, { signal }) => {
      await registry.get(vm).rehearse(signal);
      return {};
    },
    status: async ({ vm }) => registry.find(vm)?.status() ?? null,
    destroy: async ({ vm, force }) => {
      await registry.destroy(vm, force === true);
      return {};
    },
  };
}

async function memoryAvailable(): Promise<number> {
  const kibibytes = /^MemAvailable:\s+(\d+) kB$/m.exec(await readFile('/proc/meminfo', 'utf8'))?.[1];
  return Number(kibibytes ?? 0) * 1024;
}
