/** What one VM has of its host's memory, from its QEMU, its cgroup and the journal of its last park. */
import type { MemoryCgroup } from '../hypervisor/memory-cgroup.ts';
import type { Qmp } from '../hypervisor/qmp.ts';
import type { Journal } from '../saga/journal.ts';
import type { ParkState } from '../sagas/park.ts';
import type { VmMemory } from './ledger.ts';

export interface VmMemoryDeps {
  vm: string;
  qmp: Qmp;
  cgroup: MemoryCgroup;
  journal: Journal;
  isAsleep(): boolean;
}

export function vmMemory(deps: VmMemoryDeps): () => Promise<VmMemory> {
  const { vm, qmp, cgroup } = deps;
  /** A VM's size does not change, and while it is away its QEMU can't be asked. */
  let committed: number | null = null;
  const committedBytes = async () => {
    const memory = await qmp
      .execute<{ 'base-memory': number }>('query-memory-size-summary')
      .catch(() => ({ 'base-memory': 0 }));
    return memory['base-memory'];
  };
  return async () => {
    committed ||= await committedBytes();
    const [residentBytes, swappedBytes] = await Promise.all([cgroup.resident(), cgroup.swapped()]);
    return { vm, committedBytes: committed, residentBytes, swappedBytes, freedBytes: freed(deps) };
  };
}

function freed({ vm, journal, isAsleep }: VmMemoryDeps): number {
  const park = isAsleep() ? journal.lastSaga(vm, 'park') : null;
  if (park === null) return 0;
  const done = journal.ofSaga(park).find(({ step, event }) => step === 'switchOff' && event === 'succeeded');
  const { residentBeforeBytes = 0, residentAfterBytes = 0 } = (done?.body['output'] ?? {}) as ParkState;
  return Math.max(0, residentBeforeBytes - residentAfterBytes);
}
