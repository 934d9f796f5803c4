/** Figure 3.1: response by the way of switching off, with and without dummy restore and prefetch, for VMs in QEMU of several sizes. */
import { APPLICATIONS } from './applications.ts';
import { startProgress } from './progress.ts';
import { round, type Summary, summary } from './statistics.ts';
import { type Asleep, type Method, measureAsleep, nameOf, type Variant } from './switched-off.ts';

export interface Figure31Row {
  application: string;
  memoryMiB: number;
  method: Method;
  dummyRestore: boolean;
  prefetch: boolean;
  responseMs: number;
  residentMiB: number;
  spread: Summary;
}

export interface SizesOptions {
  quick: boolean;
  runs: number | undefined;
  only: readonly string[];
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
const SIZES_MIB = [1024, 2048, 3072, 4096, 8192];

export async function figure31({
  quick,
  runs = quick ? 1 : 3,
  only,
}: SizesOptions): Promise<{ rows: Figure31Row[] }> {
  const chosen = APPLICATIONS.filter(({ key }) => (only.length > 0 ? only : ['openssh']).includes(key));
  const sizes = quick ? SIZES_MIB.slice(0, 1) : SIZES_MIB;
  const progress = startProgress('figure-3.1', chosen.length * sizes.length * VARIANTS.length * runs);
  const rows: Figure31Row[] = [];
  for (const application of chosen)
    for (const memoryMiB of sizes) {
      const asleep = await measureAsleep(application, memoryMiB, VARIANTS, runs, (what) =>
        progress.advance(what),
      );
      for (const variant of VARIANTS) rows.push(rowOf(application.name, memoryMiB, variant, asleep));
    }
  progress.end();
  return { rows };
}

function rowOf(
  application: string,
  memoryMiB: number,
  variant: Variant,
  asleep: readonly Asleep[],
): Figure31Row {
  const own = asleep.filter((each) => nameOf(each) === nameOf(variant));
  const spread = summary(own.map(({ responseMs }) => responseMs));
  const residentMiB = round(summary(own.map((each) => each.residentMiB)).median);
  return { application, memoryMiB, ...variant, responseMs: spread.median, residentMiB, spread };
}
