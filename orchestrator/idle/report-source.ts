/** Where a real VM's reports come from: its agent, the counters of its switch, its hypervisor. */
import type { KeptConnection } from '../../ovs/openflow/kept-connection.ts';
import { PayloadMeter } from '../../ovs/payload-meter.ts';
import type { VmAgentApi } from '../../vm-agent/api.ts';
import type { RpcClient } from '../../wire/rpc-client.ts';
import { DirtyRateMeter } from '../hypervisor/dirty-rate.ts';
import type { Qmp } from '../hypervisor/qmp.ts';
import type { ReportSource } from './collector.ts';

export interface ReportSourceDeps {
  vm: { name: string; mac: string };
  /** The VM's bridge: `HostLink.openflow` of its host. */
  bridge: KeptConnection;
  vmAgent: Pick<RpcClient<VmAgentApi>, 'call'>;
  qmp: Pick<Qmp, 'execute'>;
  /** Those of the policy, asked at each reading. */
  healthChecks(): readonly string[];
  /** Programs that the policy counts among the gateway processes. */
  programs(): readonly string[];
}

export function reportSource(deps: ReportSourceDeps): ReportSource {
  const { vm, bridge, vmAgent, qmp } = deps;
  const payload = new PayloadMeter({ vmName: vm.name, mac: vm.mac, bridge });
  const dirty = new DirtyRateMeter(qmp);
  return {
    async guest(signal) {
      try {
        return await vmAgent.call('sample', { programs: [...deps.programs()] }, { signal });
      } finally {
        // Not before: what the agent writes to its memory for the answer would be the most of an idle guest's.
        dirty.begin().catch(() => {}); // `hypervisor` tells
      }
    },
    network: async () => ({ payloadBytes: await payload.read(deps.healthChecks()) }),
    hypervisor: async () => ({ dirtyRate: await dirty.read() }),
  };
}
