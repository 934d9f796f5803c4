/** One park and one wake of a VM with an application's client on it, timed by what passes on the client's wire. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../../common/errors.ts';
import { type Capture, startCapture } from '../../demo/capture.ts';
import type { Operation } from '../../orchestrator/vm/operation.ts';
import type { Session } from '../../test/e2e/gateways/application.ts';
import { park, poll } from '../../test/e2e/gateways/power.ts';
import type { BenchApplication } from './applications.ts';
import type { Bed, BedVm } from './bed.ts';

const AWAKE_MS = 60_000;
/** Of gigabytes that go to swap, by a machine that emulates. */
const PARK_MS = 240_000;
const ANSWER_MS = 60_000;
const FIRST_VISIT_MS = 240_000;
/** Of a core, for so long. */
const REST = 0.2;
const REST_MS = 1000;
const SETTLED_MS = 60_000;
const TICK_MS = 10;

/** An application that runs in a VM, and a client that has connected to it. */
export interface Client {
  vm: BedVm;
  session: Session;
  capture: Capture;
  port: number;
  close(): Promise<void>;
}

export interface WakeTimes {
  /** First packet out → first packet back, at the client. */
  responseMs: number;
  /** The call that was stopped in the sink → the orchestrator has begun the unpark; null when something else woke the VM. */
  noticedMs: number | null;
  park: Operation;
  unpark: Operation;
}

export async function connectClient(
  bed: Bed,
  vm: BedVm,
  { application, port }: BenchApplication,
): Promise<Client> {
  await application.prepare?.(vm.guest);
  await vm.guest.start(application.units, application.listens);
  if (bed.kind === 'qemu' && application.packages.length > 0)
    // A page is compiled for its first visitor, who leaves long before an emulated processor is done.
    await poll(FIRST_VISIT_MS, `${application.name} to have answered its first visitor`, () =>
      application.visit(vm.net).then(
        () => true,
        () => null,
      ),
    );
  const capture = await startCapture(bed.clientNetns, 'prod0', `tcp port ${port} and host ${vm.net.address}`);
  try {
    const session = await application.connect(vm.net);
    const close = async () => {
      await session.close().catch(() => {});
      await capture.stop();
    };
    return { vm, session, capture, port, close };
  } catch (thrown) {
    await capture.stop();
    throw thrown;
  }
}

export async function parkVm(bed: Bed, client: Client, { application }: BenchApplication): Promise<void> {
  const { plan, guest } = client.vm;
  if (bed.kind === 'qemu') await settled(plan.cgroup);
  await park({ vm: plan.name, guest, api: bed.api }, application, { parkMs: [] }, PARK_MS);
}

/** A virtual machine that works off what its boot or its wake has left is not idle, and nobody would park it. Slow ones do so for long. */
async function settled(cgroup: string): Promise<void> {
  const [pid] = (await readFile(join(cgroup, 'cgroup.procs'), 'utf8')).split('\n');
  let before = { ticks: Number.POSITIVE_INFINITY, at: 0 };
  await poll(SETTLED_MS, 'the VM to be at rest', async () => {
    if (performance.now() - before.at < REST_MS) return null;
    const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]?.split(' ') ?? [];
    const [ticks, at] = [Number(fields[11]) + Number(fields[12]), performance.now()];
    const busy = ((ticks - before.ticks) * TICK_MS) / (at - before.at);
    const isFirst = before.at === 0;
    before = { ticks, at };
    return (!isFirst && busy < REST) || null;
  });
}

/**
 * Sends the session's request, and waits for the answer. What the sink's processes say up to their stop (a shell ends its line before it
 * starts the command) is none. @param stoppedAt when they were stopped, in milliseconds since the epoch; asked when the client has its answer
 * @returns milliseconds from the first packet out to the first back
 */
export async function respond(
  { session, capture, port, vm }: Client,
  stoppedAt: () => Promise<number>,
): Promise<{ responseMs: number; askedAt: number; answeredAt: number }> {
  const from = capture.packets.length;
  const out = capture.waitFor(
    'a request',
    (packet) => packet.length > 0 && packet.destinationPort === port,
    ANSWER_MS,
    from,
  );
  if (!session.request) throw new SeamlessError('INTERNAL', `Expected a request of ${vm.plan.name}'s client`);
  const [request] = await Promise.all([out, session.request()]);
  const stopped = await stoppedAt();
  const answer = await capture.waitFor(
    'an answer',
    (packet) => packet.length > 0 && packet.sourcePort === port && packet.at * 1000 >= stopped,
    ANSWER_MS,
    from,
  );
  const [askedAt, answeredAt] = [request.at * 1000, answer.at * 1000];
  return { responseMs: answeredAt - askedAt, askedAt, answeredAt };
}

/** Park, request, awake. @param whileParked looks at the sink, before anything wakes it */
export async function cycle(
  bed: Bed,
  client: Client,
  application: BenchApplication,
  whileParked?: () => Promise<void>,
): Promise<WakeTimes> {
  await parkVm(bed, client, application);
  await whileParked?.();
  const { name } = client.vm.plan;
  const { responseMs, askedAt } = await respond(client, () => wokenAt(bed, name));
  const { lastPark, lastUnpark } = await awake(bed, name);
  if (!lastPark || !lastUnpark || Date.parse(lastUnpark.startedAt) < askedAt)
    throw new SeamlessError('INTERNAL', `Expected ${name} to have been woken by its client's request`);
  const trapped = await trappedAt(bed, askedAt);
  const noticedMs = trapped === null ? null : Date.parse(lastUnpark.startedAt) - trapped;
  return { responseMs, noticedMs, park: lastPark, unpark: lastUnpark };
}

/** When the filter stopped a call since `sinceMs`, by what the sink agent has logged of it. */
async function trappedAt({ lab }: Bed, sinceMs: number): Promise<number | null> {
  const lines = (await readFile(join(lab.runDirectory, 'sink-agent.log'), 'utf8')).split('\n');
  const line = lines.findLast((each) => each.includes('"filter.trigger"'));
  if (line === undefined) return null;
  const { time, handledUs } = JSON.parse(line) as { time: string; handledUs: number };
  const at = Date.parse(time) - handledUs / 1000;
  return at >= sinceMs - 1 ? at : null;
}

/** When the unpark of a VM that has been asked for something began. */
export async function wokenAt(bed: Bed, vm: string): Promise<number> {
  const { lastUnpark } = await awake(bed, vm);
  return Date.parse(lastUnpark?.startedAt ?? '');
}

/** Waits until the VM is awake and its unpark has ended. */
export function awake(
  bed: Bed,
  vm: string,
): Promise<{ lastPark: Operation | null; lastUnpark: Operation | null }> {
  return poll(AWAKE_MS, `${vm} to be awake`, async () => {
    const detail = await bed.api.get<{
      state: string;
      lastPark: Operation | null;
      lastUnpark: Operation | null;
    }>(`/v1/vms/${vm}`);
    return detail.state === 'awake' && detail.lastUnpark?.status === 'succeeded' ? detail : null;
  });
}
