/**
 * Figure 3.3: N wakes at once. `sink`: the sink server's part alone (stop, dump, send), as the paper's figure leaves the VM's resume out;
 * `whole`: native VMs, each woken by its client, all at the same time on this one machine.
 */
import { APPLICATIONS, type BenchApplication } from './applications.ts';
import { type Bed, withBed } from './bed.ts';
import { awake, type Client, connectClient, parkVm, respond, wokenAt } from './cycle.ts';
import { makeFarm } from './farm.ts';
import { startProgress } from './progress.ts';
import { fitting, freeRoom, sayLeftOut } from './room.ts';
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
  /** Told what is finished so far, after each number of wakes. */
  keep(rows: object[]): void;
}

type Measured = (wakeMs: readonly number[]) => void;

const OF_THE_PAPER = ['openssh', 'apache'];
const FULL = { sink: [1, 2, 5, 10, 20, 50], whole: [1, 2, 5, 10, 20] };
const QUICK = { sink: [1, 5, 20], whole: [1, 2] };
/** As its cgroup would let it; a native VM has no limit. */
const VM_MIB = 512;
/** What a native VM takes with one application running, its sink and its agent included. */
const TAKEN_MIB = 200;

export async function figure33({ quick, only, keep }: Figure33Options): Promise<{ rows: Figure33Row[] }> {
  const wanted = only.length > 0 ? only : OF_THE_PAPER;
  const plan = quick ? QUICK : FULL;
  const chosen = APPLICATIONS.filter(({ key }) => wanted.includes(key));
  const whole = fitting(
    plan.whole,
    (n) => ({ memoryMiB: n * TAKEN_MIB, diskMiB: 0 }),
    await freeRoom(),
    (n, why) => sayLeftOut(`${n} whole wakes at once`, why),
  );
  const progress = startProgress('figure-3.3', chosen.length * (plan.sink.length + whole.length));
  const rows: Figure33Row[] = [];
  for (const application of chosen) {
    const measured =
      (part: Figure33Row['part']): Measured =>
      (wakeMs) => {
        const row = rowOf(application, part, wakeMs);
        rows.push(row);
        progress.advance(
          `${application.name}, ${part}: ${row.n} at once, the last after ${row.responseMsMax} ms`,
        );
        keep(rows);
      };
    await withBed('native', {}, (bed) => sinkPart(bed, application, plan.sink, measured('sink')));
    if (whole.length > 0)
      await withBed('native', { count: Math.max(...whole), memoryMiB: VM_MIB }, (bed) =>
        wholeWakes(bed, application, whole, measured('whole')),
      );
  }
  progress.end();
  return { rows };
}

async function sinkPart(
  bed: Bed,
  application: BenchApplication,
  counts: readonly number[],
  measured: Measured,
): Promise<void> {
  const farm = await makeFarm(bed, application);
  try {
    for (const n of counts) {
      await farm.grow(n);
      measured(await farm.wake(n));
    }
  } finally {
    await farm.close();
  }
}

async function wholeWakes(
  bed: Bed,
  application: BenchApplication,
  counts: readonly number[],
  measured: Measured,
): Promise<void> {
  const clients: Client[] = [];
  try {
    for (const vm of bed.vms) clients.push(await connectClient(bed, vm, application));
    for (const n of counts) measured(await wakeAtOnce(bed, clients.slice(0, n), application));
  } finally {
    for (const client of clients) await client.close();
  }
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
