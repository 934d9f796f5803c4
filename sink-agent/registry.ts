/** All sinks of this server by VM, and the news of them. */
import { SeamlessError } from '../common/errors.ts';
import type { EventSource } from '../wire/rpc-server.ts';
import type { SinkAgentApi, SinkAgentEvent, SinkStatus } from './api.ts';
import { ALL_HELD } from './connections.ts';
import { safeName } from './names.ts';
import { Sink, type SinkSurroundings } from './sink.ts';

export interface Registry {
  events: EventSource<SinkAgentEvent>;
  list(): SinkStatus[];
  find(vm: string): Sink | undefined;
  /** The sink of `vm`; throws `AGENT_REFUSED` when there is none. */
  get(vm: string): Sink;
  prepare(params: SinkAgentApi['prepare']['params']): Promise<SinkStatus>;
  destroy(vm: string, force: boolean): Promise<void>;
}

/** Finds the sinks that an earlier agent left, and goes on with them. */
export async function openRegistry(around: Omit<SinkSurroundings, 'changed'>): Promise<Registry> {
  const sinks = new Map<string, Sink>();
  const listeners = new Set<(event: SinkAgentEvent) => void>();
  const changed = (sink: SinkStatus) => {
    for (const listener of listeners) listener({ type: 'sink', sink });
  };
  const surroundings = { ...around, changed };

  const registry: Registry = {
    events: {
      subscribe(listener) {
        for (const sink of registry.list()) listener({ type: 'sink', sink });
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    },
    list: () => [...sinks.values()].map((sink) => sink.status()),
    find: (vm) => sinks.get(vm),
    get(vm) {
      const sink = sinks.get(vm);
      if (sink) return sink;
      throw new SeamlessError('AGENT_REFUSED', `Expected a sink of ${vm} here, got none; prepare it first`);
    },
    async prepare(params) {
      const vm = safeName('a VM name', params.vm);
      if (sinks.get(vm)?.status().state === 'lost') await registry.destroy(vm, false);
      const existing = sinks.get(vm);
      if (existing && isFor(existing, params)) return existing.prepare();
      if (existing && existing.status().state !== 'prepared') {
        throw new SeamlessError(
          'AGENT_REFUSED',
          `The sink of ${vm} is ${existing.status().state}, for another network or template`,
        );
      }
      if (existing) await registry.destroy(vm, false);
      const { templateId, network, vmAgent } = params;
      const { connections = ALL_HELD, allow = [] } = params;
      const sink = new Sink(surroundings, {
        ...{
          version: 1,
          vm,
          templateId,
          network,
          vmAgent,
          connections,
          allow,
          init: null,
          state: 'prepared',
          ran: false,
          step: 'preparing',
        },
        ...{ stepImageId: null, imageId: null, sent: [], trigger: null, reason: null },
      });
      sinks.set(vm, sink);
      try {
        return await sink.prepare();
      } catch (cause) {
        await registry
          .destroy(vm, true)
          .catch((error: unknown) => around.log.error('sink.leftover', { vmId: vm, error }));
        throw cause;
      }
    },
    async destroy(vm, force) {
      const sink = sinks.get(vm);
      if (!sink) return;
      await sink.destroy(force);
      if (sinks.get(vm) === sink) sinks.delete(vm);
    },
  };

  for (const record of await around.records.readAll()) {
    const sink = new Sink(surroundings, record);
    try {
      if (await sink.recover()) sinks.set(record.vm, sink);
    } catch (error) {
      sinks.set(record.vm, sink); // frozen and kept: a request will say what is wrong with it
      around.log.error('sink.recover', { vmId: record.vm, error });
    }
  }
  return registry;
}

function isFor(sink: Sink, params: SinkAgentApi['prepare']['params']): boolean {
  const asText = ({
    templateId,
    network,
    vmAgent,
    connections = ALL_HELD,
    allow = [],
  }: Omit<SinkAgentApi['prepare']['params'], 'vm'>) =>
    JSON.stringify([templateId, network, vmAgent, connections, allow]);
  return asText(sink.record) === asText(params);
}
