/** All VMs of a filter, page by page. */
import type { VmSummary } from '../api/vms.ts';
import type { ApiClient } from './client.ts';

export interface Filter {
  state?: readonly string[];
  label?: readonly string[];
}

export async function allVms(
  client: ApiClient,
  { state = [], label = [] }: Filter = {},
): Promise<VmSummary[]> {
  const vms: VmSummary[] = [];
  let next: string | null = null;
  do {
    const query = new URLSearchParams([
      ['limit', '1000'],
      ...state.map((value) => ['state', value]),
      ...label.map((value) => ['label', value]),
      ...(next === null ? [] : [['cursor', next]]),
    ] as [string, string][]);
    const page: { vms: VmSummary[]; next: string | null } = await client.get(`/v1/vms?${query}`);
    vms.push(...page.vms);
    next = page.next;
  } while (next !== null);
  return vms;
}
