/** Figure 3.1: response by the way of switching off, with and without dummy restore and prefetch, for VMs of several sizes in QEMU and as containers. */
import { APPLICATIONS } from './applications.ts';
import type { BedKind } from './bed.ts';
import { startProgress } from './progress.ts';
import { fitting, freeRoom, sayLeftOut } from './room.ts';
import { median, round, type Summary, summary } from './statistics.ts';
import { type Asleep, type Method, measureAsleep, nameOf, needOf, type Variant } from './switched-off.ts';

export interface Figure31Row {
  application: string;
  bed: BedKind;
  memoryMiB: number;
  method: Method;
  dummyRestore: boolean;
  prefetch: boolean;
  responseMs: number;
  residentMiB: number;
  spread: Summary;
  /** Medians of the unpark's steps. */
  steps: Record<string, number>;
}

export interface SizesOptions {
  quick: boolean;
  runs: number | undefined;
  only: readonly string[];
  /** Of the beds and sizes in MiB only these; all when empty. */
  beds: readonly string[];
  sizes: readonly number[];
  /** Told what is finished so far, each time a VM has been measured. */
  keep(rows: object[]): void;
}

const both = { dummyRestore: true, prefetch: true };
const VARIANTS: readonly Variant[] = [
  { method: 'ram', ...both },
  { method: 'disk', ...both },
  { method: 'swap', dummyRestore: false, prefetch: false },
  { method: 'swap', dummyRestore: true, prefetch: false },
  { method: 'swap', dummyRestore: false, prefetch: true },
  { method: 'swap', ...both },
];
const SIZES_MIB: Readonly<Record<BedKind, readonly number[]>> = {
  native: [1024, 2048, 3072, 4096, 8192],
  qemu: [1024, 2048, 4096],
};
const QUICK_MIB: readonly number[] = [1024, 2048];

export async function figure31({
  quick,
  runs = quick ? 1 : 3,
  only,
  beds: onlyBeds,
  sizes,
  keep,
}: SizesOptions): Promise<{ rows: Figure31Row[] }> {
  const chosen = APPLICATIONS.filter(({ key }) => (only.length > 0 ? only : ['openssh']).includes(key));
  const wanted = (['native', 'qemu'] as const).flatMap((kind) =>
    (onlyBeds.length > 0 && !onlyBeds.includes(kind) ? [] : SIZES_MIB[kind])
      .filter((memoryMiB) =>
        (sizes.length > 0 ? sizes : quick ? QUICK_MIB : SIZES_MIB[kind]).includes(memoryMiB),
      )
      .map((memoryMiB) => ({ kind, memoryMiB })),
  );
  const beds = fitting(
    wanted,
    ({ kind, memoryMiB }) => needOf(kind, memoryMiB),
    await freeRoom(),
    ({ kind, memoryMiB }, why) => sayLeftOut(`${kind}, ${memoryMiB} MiB`, why),
  );
  const variantsOf = (kind: BedKind) => VARIANTS.filter(({ method }) => kind === 'qemu' || method !== 'disk'); // what is no process can't be saved
  const steps = beds.reduce((sum, { kind }) => sum + variantsOf(kind).length * runs, 0);
  const progress = startProgress('figure-3.1', chosen.length * steps);
  const rows: Figure31Row[] = [];
  for (const application of chosen)
    for (const { kind, memoryMiB } of beds) {
      const variants = variantsOf(kind);
      const measured = (asleep: readonly Asleep[]) =>
        variants
          .filter((variant) => asleep.filter((each) => nameOf(each) === nameOf(variant)).length === runs)
          .map((variant) => rowOf(application.name, kind, memoryMiB, variant, asleep));
      const done = (what: string, asleep: readonly Asleep[]) => {
        progress.advance(what);
        keep([...rows, ...measured(asleep)]);
      };
      rows.push(...measured(await measureAsleep({ kind, application, memoryMiB, variants, runs, done })));
    }
  progress.end();
  return { rows };
}

function rowOf(
  application: string,
  bed: BedKind,
  memoryMiB: number,
  variant: Variant,
  asleep: readonly Asleep[],
): Figure31Row {
  const own = asleep.filter((each) => nameOf(each) === nameOf(variant));
  const spread = summary(own.map(({ responseMs }) => responseMs));
  const residentMiB = round(summary(own.map((each) => each.residentMiB)).median);
  const names = Object.keys(own[0]?.steps ?? {});
  const steps = Object.fromEntries(
    names.map((name) => [name, round(median(own.map((each) => each.steps[name] ?? 0)))]),
  );
  return { application, bed, memoryMiB, ...variant, responseMs: spread.median, residentMiB, spread, steps };
}
