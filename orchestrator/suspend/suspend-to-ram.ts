/** Pauses the VM and leaves its memory where it is: wakes in milliseconds, frees nothing. */
import type { MemoryCgroup } from '../hypervisor/memory-cgroup.ts';
import type { Qmp } from '../hypervisor/qmp.ts';
import type { SwitchOff } from './switch-off.ts';

export function suspendToRam({ qmp, cgroup }: { qmp: Qmp; cgroup: MemoryCgroup }): SwitchOff {
  return {
    async switchOff(_imageId, wanted) {
      const residentBeforeBytes = await cgroup.resident();
      if (!wanted.aborted) await qmp.execute('stop');
      const residentAfterBytes = await cgroup.resident();
      return { off: !wanted.aborted, method: 'ram', residentBeforeBytes, residentAfterBytes };
    },
    async switchOn() {
      await qmp.execute('cont');
    },
    async woken() {},
  };
}
