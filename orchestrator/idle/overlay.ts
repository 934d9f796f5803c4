/** What a VM's policy changes about its next park, over its configuration: what the policy does not say stays as configured. Pure. */
import { SeamlessError } from '../../common/errors.ts';
import { parsePrefix, prefixToText } from '../../ovs/openflow/prefix.ts';
import { connectionPolicy, MOST_CONNECTION_RULES, type VmConfig } from '../config.ts';
import type { ParkSettings } from '../sagas/ports.ts';
import type { Policy } from './policy/policy.ts';

/** Connections: port by port for `syn`; `healthChecks` of the policy replace those of the configuration. Throws `CONFIG_INVALID`. */
export function parkSettings(
  vm: Pick<VmConfig, 'ports' | 'healthChecks'>,
  policy: Policy | null,
): ParkSettings {
  const ports = { ...vm.ports };
  for (const [port, syn] of Object.entries(policy?.syn ?? {})) ports[port] = { syn };
  const connections = connectionPolicy({ ports, healthChecks: [...healthChecksOf(vm, policy)] });
  for (const [what, list] of Object.entries(connections)) {
    if (list.length <= MOST_CONNECTION_RULES) continue;
    throw new SeamlessError(
      'CONFIG_INVALID',
      `Expected at most ${MOST_CONNECTION_RULES} ${what} of configuration and policy together, got ${list.length}`,
    );
  }
  return { connections, programs: policy?.gateways ?? [] };
}

/** Addresses and networks whose traffic is trivial, each written in one way only. */
export function healthChecksOf(
  { healthChecks = [] }: Pick<VmConfig, 'healthChecks'>,
  policy: Policy | null,
): readonly string[] {
  const said = policy?.lines.healthChecks === undefined ? healthChecks : policy.healthChecks;
  return said.map((text) => prefixToText(parsePrefix(text)));
}

/** undefined: the policy does not say. */
export function switchOffOf(policy: Policy | null): Policy['switchOff'] | undefined {
  return policy?.lines.switchOff === undefined ? undefined : policy.switchOff;
}
