/**
 * Table 3.1 on real virtual machines, ours alone: the baseline's `scp` wants an sshd that goes on while the VM's own is parked, which only the
 * native bed has. A VM for each application, with nothing else installed: one with all of them boots for minutes where it is emulated.
 */
import { APPLICATIONS } from './applications.ts';
import { BARE_TEMPLATE, makeTemplate, withBed } from './bed.ts';
import { connectClient } from './cycle.ts';
import { startProgress } from './progress.ts';
import { type Summary, summary } from './statistics.ts';
import { type Options, type OwnRow, oneWake, ownRow, type Wake } from './table-3.1.ts';

export interface Table31QemuRow extends OwnRow {
  baselineResponseMs: null;
  floorMs: null;
  spread: { response: Summary };
  /** Of the hypervisor, while the VM was off. */
  residentAsleepMiB: number;
}

const MEMORY_MIB = 1024;

/** @param options `runs`: wakes of each VM */
export async function table31Qemu({
  runs,
  only,
  keep,
}: Pick<Options, 'runs' | 'only' | 'keep'>): Promise<{ rows: Table31QemuRow[] }> {
  const chosen = APPLICATIONS.filter(({ key }) => only.length === 0 || only.includes(key));
  const progress = startProgress('table-3.1-qemu', chosen.length * runs);
  const rows: Table31QemuRow[] = [];
  for (const application of chosen) {
    const { packages } = application.application;
    const template = packages.length === 0 ? BARE_TEMPLATE : `bench-${application.key}`;
    await makeTemplate(template, progress.say, packages);
    const wakes: Wake[] = [];
    await withBed('qemu', { memoryMiB: MEMORY_MIB, template }, async (bed) => {
      const [vm] = bed.vms;
      if (!vm) throw new Error('Expected a VM');
      const client = await connectClient(bed, vm, application);
      for (let run = 0; run < runs; run++) {
        const wake = await oneWake(bed, client, application);
        wakes.push(wake);
        progress.advance(`${application.name}: ${Math.round(wake.times.responseMs)} ms`);
      }
      await client.close();
    });
    const resident = wakes.map(({ times }) => Number(times.park.result['residentAfterBytes'] ?? 0) / 2 ** 20);
    rows.push({
      ...ownRow(application, 'qemu', wakes),
      ...{ baselineResponseMs: null, floorMs: null },
      spread: { response: summary(wakes.map(({ times }) => times.responseMs)) },
      residentAsleepMiB: Math.round(summary(resident).median),
    });
    keep?.(rows);
  }
  progress.end();
  return { rows };
}
