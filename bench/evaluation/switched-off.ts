/** A VM in QEMU, most of its memory dirty, switched off in one of the ways and woken by a request: how long its client waits, and what it held asleep. */
import { readFile, writeFile } from 'node:fs/promises';
import { SeamlessError } from '../../common/errors.ts';
import { stopProcess } from '../../lab/processes.ts';
import { orchestratorConfigPath, serviceNamed, startService } from '../../lab/services.ts';
import type { BenchApplication } from './applications.ts';
import { BARE_TEMPLATE, type Bed, type BedKind, makeBed, SOURCE, TEMPLATE } from './bed.ts';
import { connectClient, cycle } from './cycle.ts';

export type Method = 'ram' | 'disk' | 'swap';

export interface Variant {
  method: Method;
  /** Of `swap`. */
  dummyRestore: boolean;
  prefetch: boolean;
}

export interface Asleep extends Variant {
  responseMs: number;
  residentMiB: number;
}

const STOP_MS = 10_000;
const START_MS = 60_000;
/** Of a VM's memory, what is dirtied beside what the guest has itself. */
const DIRTY = 0.6;
const FILL_MS = 600_000;

/** Each variant `runs` times, in turn, on one VM of `memoryMiB`. */
export async function measureAsleep(
  application: BenchApplication,
  memoryMiB: number,
  variants: readonly Variant[],
  runs: number,
  done: (what: string) => void,
  kind: BedKind = 'qemu',
): Promise<Asleep[]> {
  const template = application.application.packages.length === 0 ? BARE_TEMPLATE : TEMPLATE;
  const bed = await makeBed(kind, { memoryMiB, swapMiB: 2048 + memoryMiB, template });
  try {
    const [vm] = bed.vms;
    if (!vm) throw new SeamlessError('INTERNAL', 'Expected a VM');
    await dirty(bed, Math.round(memoryMiB * DIRTY));
    const client = await connectClient(bed, vm, application);
    const asleep: Asleep[] = [];
    for (const variant of variants) {
      await configure(bed, variant);
      for (let run = 0; run < runs; run++) {
        const { responseMs, park } = await cycle(bed, client, application);
        const residentMiB = Math.round(Number(park.result['residentAfterBytes'] ?? 0) / 2 ** 20);
        asleep.push({ ...variant, responseMs, residentMiB });
        done(
          `${application.name}, ${memoryMiB} MiB, ${nameOf(variant)}: ${Math.round(responseMs)} ms, ${residentMiB} MiB asleep`,
        );
      }
    }
    await client.close();
    return asleep;
  } finally {
    await bed.down();
  }
}

export function nameOf({ method, dummyRestore, prefetch }: Variant): string {
  if (method !== 'swap') return `suspend-to-${method}`;
  const without = [...(dummyRestore ? [] : ['dummy restore']), ...(prefetch ? [] : ['prefetch'])];
  return `suspend-to-swap${without.length > 0 ? ` without ${without.join(', ')}` : ''}`;
}

/** Memory that holds something, and cannot be dropped: files on a tmpfs. */
async function dirty(bed: Bed, mebibytes: number): Promise<void> {
  const fill = `mkdir -p /run/filled && mount -t tmpfs -o size=100% filled /run/filled && yes "$(head -c 3000 /dev/urandom | base64 -w0)" | head -c ${mebibytes}M > /run/filled/file`;
  await bed.vms[0]?.guest.shell(fill, FILL_MS);
}

/** The orchestrator, started anew with this way of switching off. */
async function configure({ lab, state }: Bed, { method, dummyRestore, prefetch }: Variant): Promise<void> {
  const path = orchestratorConfigPath(lab);
  const config = JSON.parse(await readFile(path, 'utf8')) as object;
  await writeFile(
    path,
    JSON.stringify({ ...config, switchOff: method, suspendToSwap: { dummyRestore, prefetch } }),
  );
  const index = state.processes.findIndex(({ name }) => name === 'orchestrator');
  const former = state.processes[index];
  if (former) await stopProcess(former, STOP_MS);
  const signal = AbortSignal.timeout(START_MS);
  await startService(
    lab,
    SOURCE,
    serviceNamed('orchestrator'),
    (running) => (state.processes[index] = running),
    signal,
  );
}
