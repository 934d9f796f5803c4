/** The ways in which one VM can be switched off, put together from what reaches its host and its guest. */
import { join } from 'node:path';
import type { Log } from '../../common/log.ts';
import type { VmAgentApi } from '../../vm-agent/api.ts';
import type { Config, VmConfig } from '../config.ts';
import type { HostTransport } from '../host/transport.ts';
import type { MemoryCgroup } from '../hypervisor/memory-cgroup.ts';
import { qemuProcess } from '../hypervisor/qemu-process.ts';
import type { Qmp } from '../hypervisor/qmp.ts';
import type { HostMemoryBook } from '../memory/host-memory.ts';
import type { Agent } from '../sagas/ports.ts';
import type { SwitchOffMethods } from './methods.ts';
import { savedState } from './saved-state.ts';
import { suspendToDisk } from './suspend-to-disk.ts';
import { suspendToRam } from './suspend-to-ram.ts';
import { suspendToSwap } from './suspend-to-swap.ts';
import { workingSet } from './working-set.ts';

export interface SwitchOffMethodsDeps {
  vm: VmConfig;
  host: HostTransport;
  qmp: Qmp;
  cgroup: MemoryCgroup;
  vmAgent: Agent<VmAgentApi>;
  /** Has the sink agent send an image to the guest for nothing. */
  rehearse(signal: AbortSignal): Promise<unknown>;
  /** Folder on the host for small records. */
  runDir: string;
  /** Of the host. */
  memory: Pick<HostMemoryBook, 'assertRoomInSwap'>;
  suspendToSwap?: Config['suspendToSwap'] | undefined;
  log: Log;
}

const programs = join(import.meta.dirname, '../../build');

export function switchOffMethods(deps: SwitchOffMethodsDeps): SwitchOffMethods {
  const { vm, host, qmp, cgroup, vmAgent, rehearse, runDir, memory, log } = deps;
  const { name, suspendToDisk: disk } = vm;
  return {
    ram: suspendToRam({ qmp, cgroup }),
    swap: suspendToSwap({
      ...{ qmp, cgroup, vmAgent, rehearse, log, parts: deps.suspendToSwap },
      assertRoomInSwap: (bytes) => memory.assertRoomInSwap(name, bytes),
      workingSet: workingSet({
        ...{ vm: name, host, cgroup, runDir, log },
        program: join(programs, 'working-set'),
      }),
    }),
    disk: disk
      ? suspendToDisk({
          ...{ vm: name, qmp, cgroup, vmAgent, log },
          saved: savedState(host, name, disk.folder, join(programs, 'state-file')),
          qemu: qemuProcess({
            ...{ vm: name, qmp, host, cgroup, cgroupFolder: vm.cgroup },
            start: disk.start,
          }),
        })
      : null,
  };
}
