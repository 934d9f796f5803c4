/** Table 3.2: what a VM switched off to swap still holds, and what it saves: measured where it fits this machine, by a stated model for the paper's other sizes. */
import { APPLICATIONS } from './applications.ts';
import type { SizesOptions } from './figure-3.1.ts';
import { paperRows } from './paper.ts';
import { startProgress } from './progress.ts';
import { fitting, freeRoom, sayLeftOut } from './room.ts';
import { median, round } from './statistics.ts';
import { measureAsleep, needOf } from './switched-off.ts';

export interface Table32Row {
  sizeMiB: number;
  residentMiB: number;
  savingPercent: number;
  extrapolated: boolean;
}

/** `residentMiB = fixedMiB + perGiBMiB × size in GiB`, least squares through what was measured. */
export interface SizeModel {
  fixedMiB: number;
  perGiBMiB: number;
}

const SIZES_MIB = [1024, 2048, 3840, 7168];
const QUICK_MIB: readonly number[] = [1024, 2048];
const SWAP = [{ method: 'swap', dummyRestore: true, prefetch: true }] as const;

export async function table32({
  quick,
  runs = quick ? 1 : 3,
  sizes: onlySizes,
  keep,
}: Omit<SizesOptions, 'only' | 'beds'>): Promise<{ rows: Table32Row[] }> {
  const [application] = APPLICATIONS.filter(({ key }) => key === 'openssh');
  if (!application) throw new Error('Expected OpenSSH');
  const wanted = SIZES_MIB.filter((size) =>
    onlySizes.length > 0 ? onlySizes.includes(size) : !quick || QUICK_MIB.includes(size),
  );
  const sizes = fitting(
    wanted,
    (size) => needOf('qemu', size),
    await freeRoom(),
    (size, why) => sayLeftOut(`${size} MiB`, why),
  );
  const progress = startProgress('table-3.2', sizes.length * runs);
  const measured: Table32Row[] = [];
  for (const sizeMiB of sizes) {
    const done = (what: string) => progress.advance(what);
    const request = { kind: 'qemu', application, memoryMiB: sizeMiB, variants: SWAP, runs, done } as const;
    const asleep = await measureAsleep(request);
    measured.push(rowOf(sizeMiB, median(asleep.map(({ residentMiB }) => residentMiB)), false));
    keep(measured);
  }
  progress.end();
  return { rows: measured };
}

/** Adds the paper's sizes that were not measured; of a single measured size nothing follows. Pure. */
export function withModel(rows: readonly Table32Row[]): { rows: Table32Row[]; model?: SizeModel } {
  const measured = rows.filter(({ extrapolated }) => !extrapolated);
  if (new Set(measured.map(({ sizeMiB }) => sizeMiB)).size < 2) return { rows: measured };
  const model = fit(measured);
  const others = [...new Set(paperRows('table-3.2').map((row) => Math.round(Number(row['size_gb']) * 1024)))]
    .filter((sizeMiB) => !measured.some((row) => row.sizeMiB === sizeMiB))
    .map((sizeMiB) => rowOf(sizeMiB, model.fixedMiB + (model.perGiBMiB * sizeMiB) / 1024, true));
  return { rows: [...measured, ...others].toSorted((a, b) => a.sizeMiB - b.sizeMiB), model };
}

/** Pure. A single size gives a constant. */
export function fit(rows: readonly Pick<Table32Row, 'sizeMiB' | 'residentMiB'>[]): SizeModel {
  const mean = (of: (row: (typeof rows)[number]) => number) =>
    rows.reduce((sum, row) => sum + of(row), 0) / rows.length;
  const [x, y] = [mean(({ sizeMiB }) => sizeMiB / 1024), mean(({ residentMiB }) => residentMiB)];
  const spread = mean(({ sizeMiB }) => (sizeMiB / 1024 - x) ** 2);
  const together = mean(({ sizeMiB, residentMiB }) => (sizeMiB / 1024 - x) * (residentMiB - y));
  const perGiBMiB = spread === 0 ? 0 : together / spread;
  return { fixedMiB: round(y - perGiBMiB * x), perGiBMiB: round(perGiBMiB) };
}

function rowOf(sizeMiB: number, residentMiB: number, extrapolated: boolean): Table32Row {
  return {
    sizeMiB,
    residentMiB: round(residentMiB),
    savingPercent: round(100 * (1 - residentMiB / sizeMiB)),
    extrapolated,
  };
}
