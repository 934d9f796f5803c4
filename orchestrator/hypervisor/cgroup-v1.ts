/**
 * A memory cgroup of version 1. `memory.limit_in_bytes` is lowered in strokes, each lifted at once: lowering it is what
 * reclaims, and a limit that stays can have QEMU killed for want of memory when it faults pages in faster than others can go
 * (seen; hence also `memory.oom_control`, by which it waits instead).
 */
import type { HostTransport } from '../host/transport.ts';
import type { CgroupFiles } from './memory-cgroup.ts';
import { inStrokes, type Pace, readNumber } from './reclaim.ts';

export function cgroupV1(host: HostTransport, path: string, pace?: Pace): CgroupFiles {
  const usage = () => readNumber(host, `${path}/memory.usage_in_bytes`);
  const write = (file: string, value: number) => host.writeFile(`${path}/${file}`, String(value));
  const noLimit = () => write('memory.limit_in_bytes', -1);
  // Newer kernels call this file deprecated: without it there is a little less safety, and no failure.
  const oomKiller = (state: 'on' | 'off') =>
    write('memory.oom_control', state === 'off' ? 1 : 0).catch(() => {});
  return {
    usage,
    async squeeze(floorBytes, wanted) {
      await oomKiller('off');
      const shrinkTo = (bytes: number) => write('memory.limit_in_bytes', bytes).finally(noLimit);
      await inStrokes({ usage, shrinkTo, floorBytes, wanted, ...(pace ? { pace } : {}) });
    },
    async lift() {
      await noLimit();
      await oomKiller('on');
    },
  };
}
