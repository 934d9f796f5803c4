/**
 * Figure 3.3: N wakes at once. `sink`: the sink server's part alone (stop, dump, send), as the paper's figure leaves the VM's resume out;
 * `whole`: native VMs, each woken by its client, all at the same time on this one machine.
 */
import { APPLICATIONS, type BenchApplication } from './applications.ts';
import { type Bed, makeBed } from './bed.ts';
import { awake, type Client, connectClient, parkVm, respond, wokenAt } from './cycle.ts';
import { makeFarm } from './farm.ts';
import { type Progress, startProgress } from './progress.ts';
import { median, round } from './statistics.ts';

export interface Figure33Row {
  application: string;
  n: number;
  responseMsMedian: number;
  responseMsMax: number;
  part: 'sink' | 'whole';
}

export interface Figure33Options {
  quick: boolean;
  only: readonly string[];
}

const OF_THE_PAPER = ['openssh', 'apache'];
const FULL = { sink: [1, 2, 5, 10, 20, 50], whole: [1, 2, 5, 10, 20] };
const QUICK = { sink: [1, 5, 20], whole: [1, 2] };

export async function figure33({ quick, only }: Figure33Options): Promise<{ rows: Figure33Row[] }> {
  const wanted = only.length > 0 ? only : OF_THE_PAPER;
  const plan = quick ? QUICK : FULL;
  const chosen = APPLICATIONS.filter(({ key }) => wanted.includes(key));
  const progress = startProgress('figure-3.3', chosen.length * (plan.sink.length + plan.whole.length));
  const rows: Figure33Row[] = [];
  for (const application of chosen) {
    rows.push(...(await sinkPart(application, plan.sink, progress)));
    rows.push(...(await wholeWakes(application, plan.whole, progress)));
  }
  progress.end();
  return { rows };
}

async function sinkPart(
  application: BenchApplication,
  counts: readonly number[],
  progress: Progress,
): Promise<Figure33Row[]> {
  const rows: Figure33Row[] = [];
  const bed = await makeBed('native');
  try {
    const farm = await makeFarm(bed, application);
    try {
      for (const n of counts) {
        await farm.grow(n);
        rows.push(rowOf(application, 'sink', await farm.wake(n)));
        progress.advance(
          `${application.name}, sink: ${n} at once, the last after ${rows.at(-1)?.responseMsMax} ms`,
        );
      }
    } finally {
      await farm.close();
    }
  } finally {
    await bed.down();
  }
  return rows;
}

async function wholeWakes(
  application: BenchApplication,
  counts: readonly number[],
  progress: Progress,
): Promise<Figure33Row[]> {
  const rows: Figure33Row[] = [];
  const bed = await makeBed('native', { count: Math.max(...counts), memoryMiB: 512 });
  const clients: Client[] = [];
  try {
    for (const vm of bed.vms) clients.push(await connectClient(bed, vm, application));
    for (const n of counts) {
      rows.push(rowOf(application, 'whole', await wakeAtOnce(bed, clients.slice(0, n), application)));
      progress.advance(
        `${application.name}, whole: ${n} at once, the last after ${rows.at(-1)?.responseMsMax} ms`,
      );
    }
  } finally {
    for (const client of clients) await client.close();
    await bed.down();
  }
  return rows;
}

async function wakeAtOnce(
  bed: Bed,
  clients: readonly Client[],
  application: BenchApplication,
): Promise<number[]> {
  for (const client of clients) await parkVm(bed, client, application);
  const answers = await Promise.all(
    clients.map((client) => respond(client, () => wokenAt(bed, client.vm.plan.name))),
  );
  for (const { vm } of clients) await awake(bed, vm.plan.name);
  return answers.map(({ responseMs }) => responseMs);
}

function rowOf({ name }: BenchApplication, part: Figure33Row['part'], times: readonly number[]): Figure33Row {
  return {
    application: name,
    n: times.length,
    responseMsMedian: round(median(times)),
    responseMsMax: round(Math.max(...times)),
    part,
  };
}
