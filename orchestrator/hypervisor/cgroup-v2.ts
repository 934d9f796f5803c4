/**
 * A memory cgroup of version 2. `memory.reclaim` (Linux 5.19) takes pages without any limit; where it is missing `memory.high` is
 * lowered for the stroke, which reclaims as well and, unlike `memory.max`, never kills. `memory.swap.max` is the operator's: what
 * it forbids stays in memory.
 */
import { type HostTransport, isMissing } from '../host/transport.ts';
import type { CgroupFiles } from './memory-cgroup.ts';
import { inStrokes, type Pace, readNumber } from './reclaim.ts';

export function cgroupV2(host: HostTransport, path: string, pace?: Pace): CgroupFiles {
  const usage = () => readNumber(host, `${path}/memory.current`);
  const setHigh = (value: string) => host.writeFile(`${path}/memory.high`, value);
  const lift = () => setHigh('max');
  let hasReclaim = true;
  const byHigh = (bytes: number) => setHigh(String(bytes)).finally(lift);
  const shrinkTo = async (bytes: number) => {
    if (!hasReclaim) return byHigh(bytes);
    const surplus = Math.max(0, (await usage()) - bytes);
    await host.writeFile(`${path}/memory.reclaim`, String(surplus)).catch((error) => {
      // The kernel lets nobody make files here: one that is not there answers either.
      if (!isMissing(error) && !['EACCES', 'EPERM'].includes(codeOf(error) ?? '')) throw error;
      hasReclaim = false;
      return byHigh(bytes);
    });
  };
  return {
    usage,
    squeeze: (floorBytes, wanted) =>
      inStrokes({ usage, shrinkTo, floorBytes, wanted, ...(pace ? { pace } : {}) }),
    lift,
  };
}

function codeOf(thrown: unknown): string | undefined {
  return ((thrown as { cause?: unknown })?.cause as NodeJS.ErrnoException | undefined)?.code;
}
