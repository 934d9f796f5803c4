/** Figure 3.2: what sinks take of their server's memory and processor, by their number. */
import { setTimeout as delay } from 'node:timers/promises';
import { APPLICATIONS, type BenchApplication } from './applications.ts';
import { type Bed, withBed } from './bed.ts';
import { type Farm, type FarmMemory, makeFarm } from './farm.ts';
import { startProgress } from './progress.ts';
import { freeRoom, sayLeftOut } from './room.ts';
import { round } from './statistics.ts';

export interface Figure32Row {
  application: string;
  sinks: number;
  memoryMiB: number;
  cpuPercent: number;
  /** What `memoryMiB` is made of. */
  parts: FarmMemory;
}

export interface Figure32Options {
  quick: boolean;
  only: readonly string[];
  /** Told what is finished so far, each time that so many sinks have been measured. */
  keep(rows: object[]): void;
}

const OF_THE_PAPER = ['openssh', 'apache'];
const BUDGET_MIB = 1024;
/** What waits is paged out, to a file on the disk. */
const SWAP_MIB = 4096;
const PAGE_OUT_MS = 3000;
/** Until it has been written and let go of. */
const SETTLED_MS = 8000;
const FULL = { counts: [1, 10, 25, 50, 100, 200, 400, 700, 1000], cpuSeconds: 20, limitMiB: 16_384 };
const QUICK = { counts: [1, 5, 10, 20], cpuSeconds: 5, limitMiB: BUDGET_MIB };

export async function figure32({ quick, only, keep }: Figure32Options): Promise<{ rows: Figure32Row[] }> {
  const wanted = only.length > 0 ? only : OF_THE_PAPER;
  const plan = quick ? QUICK : FULL;
  const rows: Figure32Row[] = [];
  const chosen = APPLICATIONS.filter(({ key }) => wanted.includes(key));
  const progress = startProgress('figure-3.2', chosen.length * plan.counts.length);
  for (const application of chosen)
    await withBed('native', { swapMiB: SWAP_MIB, pageOutAfterMs: PAGE_OUT_MS }, (bed) =>
      fill(bed, application, plan, (row) => {
        rows.push(row);
        progress.advance(
          `${row.application}: ${row.sinks} sinks, ${row.memoryMiB} MiB, ${row.cpuPercent} % of a core`,
        );
        keep(rows);
      }),
    );
  progress.end();
  return { rows };
}

/** By application. Pure. */
export function sinksPerGiB(rows: readonly Figure32Row[]): Record<string, number> {
  const applications = [...new Set(rows.map(({ application }) => application))];
  return Object.fromEntries(
    applications.map((name) => [name, perGiB(rows.filter(({ application }) => application === name))]),
  );
}

async function fill(
  bed: Bed,
  application: BenchApplication,
  plan: typeof FULL,
  done: (row: Figure32Row) => void,
): Promise<void> {
  const farm = await makeFarm(bed, application);
  try {
    const limitMiB = Math.min(plan.limitMiB, (await freeRoom()).memoryMiB);
    let eachMiB = 0;
    for (const sinks of plan.counts) {
      const expectedMiB = Math.round(eachMiB * sinks);
      if (expectedMiB > limitMiB) {
        sayLeftOut(
          `${sinks} sinks of ${application.name}`,
          `about ${expectedMiB} MiB, the limit is ${limitMiB}`,
        );
        break;
      }
      await farm.grow(sinks);
      await delay(SETTLED_MS);
      const parts = rounded(await farm.memory());
      const cpuPercent = await cpuOf(farm, sinks, plan.cpuSeconds);
      done({ application: application.name, sinks, memoryMiB: parts.totalMiB, cpuPercent, parts });
      eachMiB = parts.totalMiB / sinks;
    }
  } finally {
    await farm.close();
  }
}

/** Of the farm's own: the sink that the image comes from runs beside them, and costs as much as each. */
async function cpuOf(farm: Farm, sinks: number, seconds: number): Promise<number> {
  const [before, startedAt] = [await farm.processorNs(), performance.now()];
  await delay(seconds * 1000);
  const ns = (((await farm.processorNs()) - before) * sinks) / (sinks + 1);
  return Math.round((ns / ((performance.now() - startedAt) * 1e6)) * 1e6) / 1e4;
}

/** By what each further sink took, up to the budget or as many as there were. */
export function perGiB(rows: readonly Pick<Figure32Row, 'sinks' | 'memoryMiB'>[]): number {
  const [first] = rows;
  const within = rows.filter(({ memoryMiB }) => memoryMiB <= BUDGET_MIB);
  const last = within.at(-1);
  if (!first || !last || last.sinks === first.sinks)
    return Math.floor((BUDGET_MIB / (first?.memoryMiB ?? Number.NaN)) * (first?.sinks ?? 0));
  const each = (last.memoryMiB - first.memoryMiB) / (last.sinks - first.sinks);
  return Math.floor(BUDGET_MIB / each);
}

function rounded(memory: FarmMemory): FarmMemory {
  return Object.fromEntries(
    Object.entries(memory).map(([key, value]) => [key, round(value)]),
  ) as unknown as FarmMemory;
}
