/** A VM, most of its memory dirty, switched off in one of the ways and woken by a request: how long its client waits, and what it held asleep. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../../common/errors.ts';
import { MEMORY_CGROUPS } from '../../lab/plan.ts';
import { stopProcess } from '../../lab/processes.ts';
import { orchestratorConfigPath, serviceNamed, startService } from '../../lab/services.ts';
import type { BenchApplication } from './applications.ts';
import { BARE_TEMPLATE, type Bed, type BedKind, type BedVm, SOURCE, TEMPLATE, withBed } from './bed.ts';
import { connectClient, cycle } from './cycle.ts';
import type { Room } from './room.ts';

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
  /** The steps of the unpark, in milliseconds: where the time goes. */
  steps: Readonly<Record<string, number>>;
}

const STOP_MS = 10_000;
const START_MS = 60_000;
/** Of a VM's memory, what is dirtied beside what the guest has itself. */
const DIRTY = 0.6;
const FILL_MS = 600_000;
const QEMU_MIB = 512;

export interface AsleepRequest {
  kind: BedKind;
  application: BenchApplication;
  memoryMiB: number;
  variants: readonly Variant[];
  runs: number;
  /** Told after each wake, with all so far. */
  done(what: string, asleep: readonly Asleep[]): void;
}

/** Each variant `runs` times after a wake that is not counted, on one VM of `memoryMiB`. */
export async function measureAsleep(request: AsleepRequest): Promise<Asleep[]> {
  const { kind, application, memoryMiB, variants, runs, done } = request;
  const template = application.application.packages.length === 0 ? BARE_TEMPLATE : TEMPLATE;
  return withBed(kind, { memoryMiB, swapMiB: swapOf(memoryMiB), template }, async (bed) => {
    const [vm] = bed.vms;
    if (!vm) throw new SeamlessError('INTERNAL', 'Expected a VM');
    if (kind === 'native') await limit(bed, memoryMiB);
    await dirty(vm, Math.round(memoryMiB * DIRTY));
    const client = await connectClient(bed, vm, application);
    const asleep: Asleep[] = [];
    for (const variant of variants) {
      await configure(bed, variant);
      // The first wake after a start of the service is like none after it; and what is prefetched was recorded by a wake of this kind.
      await cycle(bed, client, application);
      for (let run = 0; run < runs; run++) {
        let residentMiB = 0;
        const { responseMs, unpark } = await cycle(bed, client, application, async () => {
          residentMiB = await resident(bed, vm);
        });
        const steps = Object.fromEntries(unpark.steps.map(({ name, ms }) => [name, ms ?? 0]));
        asleep.push({ ...variant, responseMs, residentMiB, steps });
        done(
          `${application.name}, ${kind}, ${memoryMiB} MiB, ${nameOf(variant)}: ${Math.round(responseMs)} ms, ${residentMiB} MiB asleep`,
          asleep,
        );
      }
    }
    await client.close();
    return asleep;
  });
}

/** What a bed with a VM of that size takes at most. */
export function needOf(kind: BedKind, memoryMiB: number): Room {
  if (kind === 'native') return { memoryMiB, diskMiB: swapOf(memoryMiB) };
  // QEMU's own, and a file of all its memory when it is suspended to disk.
  return { memoryMiB: memoryMiB + QEMU_MIB, diskMiB: swapOf(memoryMiB) + memoryMiB };
}

function swapOf(memoryMiB: number): number {
  return 2048 + memoryMiB;
}

export function nameOf({ method, dummyRestore, prefetch }: Variant): string {
  if (method !== 'swap') return `suspend-to-${method}`;
  const without = [...(dummyRestore ? [] : ['dummy restore']), ...(prefetch ? [] : ['prefetch'])];
  return `suspend-to-swap${without.length > 0 ? ` without ${without.join(', ')}` : ''}`;
}

/** A container has as much memory as its cgroup lets it: the one above the VM's own, whose limits are SEaMLESS's. */
async function limit({ lab }: Bed, memoryMiB: number): Promise<void> {
  await writeFile(join(MEMORY_CGROUPS, lab.cgroup, 'memory.limit_in_bytes'), `${memoryMiB}M`);
}

/** Of QEMU as the service reports it; of a container, whose programs share pages, what its cgroup is charged for. */
async function resident({ kind, api }: Bed, { plan }: BedVm): Promise<number> {
  const bytes =
    kind === 'qemu'
      ? (await api.get<{ residentBytes: number | null }>(`/v1/vms/${plan.name}`)).residentBytes
      : Number(await readFile(join(plan.cgroup, 'memory.usage_in_bytes'), 'utf8'));
  return Math.round((bytes ?? 0) / 2 ** 20);
}

/** Memory that a program holds, noise that no two mebibytes have in common. Little is computed: an emulated guest has all day for that. */
async function dirty({ guest }: BedVm, mebibytes: number): Promise<void> {
  const program = `my $page = pack("L*", map { int rand 4294967296 } 1..1024); my @own; for (1..${mebibytes}) { substr($page, 0, 4) = pack "L", $_; $own[$_] = $page x 256 } open F, ">/run/filled"; sleep`;
  await guest.run('systemd-run', '--quiet', '--collect', '--unit=filled', 'perl', '-e', program);
  await guest.shell('until [ -e /run/filled ]; do systemctl -q is-active filled; sleep 0.2; done', FILL_MS);
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
