/** Figure 3.2: what sinks take of their server's memory and processor, by their number. */
import { setTimeout as delay } from 'node:timers/promises';
import { APPLICATIONS, type BenchApplication } from './applications.ts';
import { makeBed } from './bed.ts';
import { type Farm, type FarmMemory, makeFarm } from './farm.ts';
import { type Progress, startProgress } from './progress.ts';
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

export async function figure32({ quick, only }: Figure32Options): Promise<{ rows: Figure32Row[] }> {
  const wanted = only.length > 0 ? only : OF_THE_PAPER;
  const plan = quick ? QUICK : FULL;
  const rows: Figure32Row[] = [];
  const chosen = APPLICATIONS.filter(({ key }) => wanted.includes(key));
  const progress = startProgress('figure-3.2', chosen.length * plan.counts.length);
  for (const application of chosen) rows.push(...(await fill(application, plan, progress)));
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
  application: BenchApplication,
  plan: typeof FULL,
  progress: Progress,
): Promise<Figure32Row[]> {
  const rows: Figure32Row[] = [];
  process.env['SEAMLESS_PAGE_OUT_MS'] ??= String(PAGE_OUT_MS);
  const bed = await makeBed('native', { swapMiB: SWAP_MIB });
  let farm: Farm | undefined;
  try {
    farm = await makeFarm(bed, application);
    for (const sinks of plan.counts) {
      const last = rows.at(-1);
      const expected = last ? (last.memoryMiB / last.sinks) * sinks : 0;
      if (expected > plan.limitMiB) break;
      await farm.grow(sinks);
      await delay(SETTLED_MS);
      const parts = rounded(await farm.memory());
      const row = {
        application: application.name,
        sinks,
        memoryMiB: parts.totalMiB,
        cpuPercent: await cpuOf(farm, sinks, plan.cpuSeconds),
        parts,
      };
      rows.push(row);
      progress.advance(
        `${application.name}: ${sinks} sinks, ${row.memoryMiB} MiB, ${row.cpuPercent} % of a core`,
      );
    }
  } finally {
    await farm?.close();
    await bed.down();
  }
  return rows;
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
