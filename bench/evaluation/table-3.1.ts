/**
 * Table 3.1: what a client waits for, application by application. Ours, the paper's own pipeline (baseline) and the bare work of CRIU (floor),
 * interleaved in one run, so that what else the machine does meets all three alike.
 */
import { APPLICATIONS, type BenchApplication } from './applications.ts';
import { armPipeline, disarmPipeline, type Pipeline, type PipelineTimes } from './baseline.ts';
import { type Bed, type BedKind, keepLogs, makeBed } from './bed.ts';
import { type Client, connectClient, cycle, parkVm, respond, type WakeTimes } from './cycle.ts';
import { startProgress } from './progress.ts';
import { type SinkMemory, sinkMemory } from './sink-memory.ts';
import { median, percentile, round, type Summary, summary } from './statistics.ts';

/** What is measured of ours alone, on either bed. */
export interface OwnRow {
  application: string;
  bed: BedKind;
  runs: number;
  dumpMs: number;
  transferMs: number;
  restoreMs: number;
  totalMs: number;
  responseMs: number;
  imageRawBytes: number;
  imageSentBytes: number;
  sinkRssKiB: number;
  sinkPssKiB: number;
  /** From the call that was stopped in the sink until the orchestrator has begun the unpark. */
  noticedMs?: { p50: number; p95: number };
  parkMs: number;
}

export interface Table31Row extends OwnRow {
  baselineResponseMs: number;
  floorMs: number;
  /** Median, extremes and number of runs of what is compared. */
  spread: { response: Summary; baseline: Summary; floor: Summary };
  /** Response without what the floor takes: orchestration, switching, calls, and what CRIU pays for them. */
  outsideMs: { p50: number; p95: number };
  /** Medians of the baseline's steps. */
  baselineSteps: PipelineTimes;
}

/** One wake of ours. */
export interface Wake {
  times: WakeTimes;
  memory: SinkMemory;
}

export interface Options {
  runs: number;
  /** Keys of applications; all when empty. */
  only: readonly string[];
  /** Told what is finished so far, application by application. */
  keep?(rows: object[]): void;
  /** Of ours in each run. */
  wakes?: number;
  /** Another template than the bench's own, for a test of all this. */
  template?: string;
}

/** The first wake of a run finds caches cold, as after a night. */
const WAKES_PER_RUN = 3;

export async function table31(options: Options): Promise<{ rows: Table31Row[] }> {
  const { runs, only, wakes = WAKES_PER_RUN } = options;
  const withBed = bedMaker(options.template);
  const chosen = APPLICATIONS.filter(({ key }) => only.length === 0 || only.includes(key));
  const progress = startProgress('table-3.1', chosen.length * runs);
  const rows: Table31Row[] = [];
  for (const application of chosen) {
    const ours: Wake[] = [];
    const baseline: Replayed[] = [];
    const floor: Replayed[] = [];
    for (let run = 0; run < runs; run++) {
      const measured = await withBed((bed) => oneRun(bed, application, wakes, (what) => progress.say(what)));
      ours.push(...measured.ours);
      baseline.push(measured.baseline);
      floor.push(await withBed((bed) => replay(bed, application, 'floor')));
      progress.advance(`${application.name}: ${Math.round(measured.ours.at(-1)?.times.responseMs ?? 0)} ms`);
    }
    rows.push(rowOf(application, ours, baseline, floor));
    options.keep?.(rows);
  }
  progress.end();
  return { rows };
}

interface Replayed {
  responseMs: number;
  steps: PipelineTimes;
}

/** Several wakes of ours, then the baseline's on the same bed, which is of no use after it. */
async function oneRun(bed: Bed, application: BenchApplication, wakes: number, say: (what: string) => void) {
  const [vm] = bed.vms;
  if (!vm) throw new Error('Expected a VM');
  const client = await connectClient(bed, vm, application);
  try {
    const ours: Wake[] = [];
    for (let wake = 0; wake < wakes; wake++) {
      say(`${application.name}: ours`);
      ours.push(await oneWake(bed, client, application));
    }
    say(`${application.name}: baseline`);
    await parkVm(bed, client, application);
    const armed = await armPipeline(bed, vm, 'baseline');
    const [{ responseMs }, steps] = await Promise.all([respond(client, () => armed.stoppedAt), armed.done]);
    return { ours, baseline: { responseMs, steps } };
  } finally {
    await client.close();
  }
}

/** Park, look at the sink, wake. */
export async function oneWake(bed: Bed, client: Client, application: BenchApplication): Promise<Wake> {
  let memory: SinkMemory | undefined;
  const times = await cycle(bed, client, application, async () => {
    memory = sinkMemory(bed.lab, client.vm.plan.name);
  });
  if (!memory) throw new Error('Expected the sink to have been looked at');
  return { times, memory };
}

async function replay(bed: Bed, application: BenchApplication, which: Pipeline): Promise<Replayed> {
  const [vm] = bed.vms;
  if (!vm) throw new Error('Expected a VM');
  const client = await connectClient(bed, vm, application);
  try {
    await parkVm(bed, client, application);
    const armed = await armPipeline(bed, vm, which);
    const [{ responseMs }, steps] = await Promise.all([respond(client, () => armed.stoppedAt), armed.done]);
    return { responseMs, steps };
  } finally {
    await client.close();
  }
}

/** What gives each piece of work a bed of its own. */
function bedMaker(template: string | undefined) {
  return async <T>(work: (bed: Bed) => Promise<T>): Promise<T> => {
    const bed = await makeBed('native', template === undefined ? {} : { template });
    try {
      return await work(bed);
    } catch (thrown) {
      process.stderr.write(`bench: its logs are in ${await keepLogs(bed)}\n`);
      throw thrown;
    } finally {
      await disarmPipeline(bed);
      await bed.down();
    }
  };
}

function rowOf(
  application: BenchApplication,
  ours: readonly Wake[],
  baseline: readonly Replayed[],
  floor: readonly Replayed[],
): Table31Row {
  const responses = ours.map(({ times }) => times.responseMs);
  const bare = summary(
    floor.map(({ steps }) => (steps['dump'] ?? 0) + (steps['transfer'] ?? 0) + (steps['restore'] ?? 0)),
  );
  const outside = responses.map((ms) => ms - bare.median);
  const spread = {
    response: summary(responses),
    baseline: summary(baseline.map(({ responseMs }) => responseMs)),
    floor: bare,
  };
  return {
    ...ownRow(application, 'native', ours),
    baselineResponseMs: spread.baseline.median,
    floorMs: bare.median,
    spread,
    outsideMs: { p50: round(percentile(outside, 50)), p95: round(percentile(outside, 95)) },
    baselineSteps: medians(baseline.map(({ steps }) => steps)),
  };
}

/** Medians of wakes of ours. */
export function ownRow({ name }: BenchApplication, bed: BedKind, wakes: readonly Wake[]): OwnRow {
  const step = (wanted: string) =>
    round(median(wakes.map(({ times }) => times.unpark.steps.find((each) => each.name === wanted)?.ms ?? 0)));
  const found = (key: string) =>
    Math.round(median(wakes.map(({ times }) => Number(times.unpark.result[key] ?? 0))));
  const kib = (key: 'rssKiB' | 'pssKiB') => Math.round(median(wakes.map(({ memory }) => memory[key])));
  const noticed = wakes.flatMap(({ times }) => times.noticedMs ?? []);
  return {
    application: name,
    bed,
    runs: wakes.length,
    dumpMs: step('checkpoint'),
    transferMs: step('send'),
    restoreMs: step('restore'),
    totalMs: round(median(wakes.map(({ times }) => untilServed(times)))),
    responseMs: summary(wakes.map(({ times }) => times.responseMs)).median,
    imageRawBytes: found('imageBytes'),
    imageSentBytes: found('sentBytes'),
    sinkRssKiB: kib('rssKiB'),
    sinkPssKiB: kib('pssKiB'),
    ...(noticed.length > 0
      ? { noticedMs: { p50: round(percentile(noticed, 50)), p95: round(percentile(noticed, 95)) } }
      : {}),
    parkMs: round(median(wakes.map(({ times }) => times.park.ms ?? 0))),
  };
}

/** From the beginning of the unpark until the held packets are released; tidying up is nobody's wait. */
function untilServed({ unpark }: WakeTimes): number {
  const tidy = unpark.steps.find(({ name }) => name === 'tidy')?.ms ?? 0;
  return (unpark.ms ?? 0) - tidy;
}

function medians(all: readonly PipelineTimes[]): PipelineTimes {
  const names = Object.keys(all[0] ?? {});
  return Object.fromEntries(names.map((name) => [name, round(median(all.map((times) => times[name] ?? 0)))]));
}
