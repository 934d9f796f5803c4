/** The hosts and sink servers of the configuration, and whether they answer now. */
import type { SinkAgentApi } from '../../sink-agent/api.ts';
import type { Config } from '../config.ts';
import type { HostLink } from '../network/host-link.ts';
import type { Agent } from '../sagas/ports.ts';
import type { Inventory, SinkView } from './inventory.ts';

const ANSWER_MS = 2000;

export function configInventory(
  { hosts, sinks }: Pick<Config, 'hosts' | 'sinks'>,
  links: ReadonlyMap<string, Pick<HostLink, 'openflow'>>,
  agents: ReadonlyMap<string, Agent<SinkAgentApi>>,
): Inventory {
  return {
    hosts: () =>
      hosts.map(({ name, transport, bridge }) => ({
        ...{ name, bridge, transport: transport.type },
        reachable: links.get(name)?.openflow.isUp === true,
        sinks: sinks.filter(({ host }) => host === name).map((sink) => sink.name),
      })),
    sinks: () =>
      Promise.all(
        sinks.map(async ({ name, host, agent }): Promise<SinkView> => {
          const asked = agents.get(name)?.call('describe', {}, { timeoutMs: ANSWER_MS });
          const said = (await asked?.catch(() => null)) ?? null;
          return {
            ...{ name, host, agent: `${agent.address}:${agent.port}`, reachable: said !== null },
            templateIds: said?.templateIds ?? [],
            memoryAvailableBytes: said?.memoryAvailableBytes ?? null,
            sinks: said?.sinks.length ?? 0,
          };
        }),
      ),
  };
}
