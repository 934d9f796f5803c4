/** Makes a farm of sinks (sink-farm.ts) on a bed: an application is parked once, and its image is what all the sinks live from. */
import { type ChildProcess, spawn } from 'node:child_process';
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { SeamlessError } from '../../common/errors.ts';
import { credentialPaths } from '../../lab/pki.ts';
import { AGENT_PORT, MANAGEMENT, MEMORY_CGROUPS, namespacePath, SINK_NAME } from '../../lab/plan.ts';
import type { SinkRecord } from '../../sink-agent/record.ts';
import { firstProcess } from '../../test/e2e/gateways/guest.ts';
import type { BenchApplication } from './applications.ts';
import { type Bed, PROCESSOR_CGROUPS } from './bed.ts';
import { connectClient, parkVm } from './cycle.ts';
import type { FarmAnswer, FarmCommand, FarmPlan } from './sink-farm.ts';

const STAND_IN_PORT = 7500;

export interface Farm {
  /** Makes sinks until so many run. */
  grow(sinks: number): Promise<void>;
  /** Wakes so many at once. @returns milliseconds of each */
  wake(sinks: number): Promise<number[]>;
  /** Of the sink server's agent and all its sinks: what only they hold, without the page cache. */
  memory(): Promise<FarmMemory>;
  /** Nanoseconds of processor time so far, of the agent and all its sinks. */
  processorNs(): Promise<number>;
  close(): Promise<void>;
}

export interface FarmMemory {
  /** Of all processes, the container's own and filters included. */
  anonymousMiB: number;
  /** On tmpfs: images, what the sinks have written. */
  imagesMiB: number;
  kernelMiB: number;
  swappedMiB: number;
  totalMiB: number;
}

/** A sink agent that is started anew in cgroups of its own, so that what its sinks take can be told from everything else. */
export async function makeFarm(bed: Bed, application: BenchApplication): Promise<Farm> {
  const [vm] = bed.vms;
  if (!vm) throw new SeamlessError('INTERNAL', 'Expected a VM');
  const cgroups = await enterCgroups(bed);
  const client = await connectClient(bed, vm, application);
  await parkVm(bed, client, application);
  const { name } = vm.plan;
  const sinkState = join(bed.lab.runDirectory, 'sink');
  const record = JSON.parse(await readFile(join(sinkState, 'sinks', `${name}.json`), 'utf8')) as SinkRecord;
  const folder = join(bed.lab.runDirectory, 'farm');
  const image = join(folder, 'image');
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  // The VM's own: the sink keeps no pages of it.
  const inVm = `/proc/${firstProcess(bed.state, name)}/root/run/seamless/images`;
  await cp(join(inVm, record.imageId ?? ''), image, { recursive: true });
  const pki = join(bed.lab.runDirectory, 'pki');
  const plan: FarmPlan = {
    image,
    allow: record.allow ?? [],
    sinkAgent: { address: MANAGEMENT.sink, port: AGENT_PORT, serverName: SINK_NAME },
    listen: { address: MANAGEMENT.sink, port: STAND_IN_PORT, serverName: name },
    orchestratorTls: credentialPaths(pki, 'orchestrator'),
    vmAgentTls: credentialPaths(pki, name),
  };
  await writeFile(join(folder, 'plan.json'), JSON.stringify(plan));
  const program = join(import.meta.dirname, 'sink-farm.ts');
  const argv = [
    `--net=${namespacePath(bed.lab, 'sink')}`,
    process.execPath,
    program,
    join(folder, 'plan.json'),
  ];
  const child = spawn('nsenter', argv, { stdio: ['pipe', 'pipe', 'inherit'] });
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<FarmAnswer> => {
    const { value, done } = await answers.next();
    if (done) throw new SeamlessError('COMMAND_FAILED', 'The farm of sinks ended');
    return JSON.parse(value as string) as FarmAnswer;
  };
  await next();
  const tell = async (command: FarmCommand): Promise<FarmAnswer> => {
    child.stdin.write(`${JSON.stringify(command)}\n`);
    const answer = await next();
    if (answer.error) throw new SeamlessError('COMMAND_FAILED', `The farm of sinks: ${answer.error}`);
    return answer;
  };
  const none = await memoryOf(cgroups.memory);
  return {
    grow: async (sinks) => void (await tell({ grow: sinks })),
    wake: async (sinks) => (await tell({ wake: sinks })).wakeMs ?? [],
    memory: async () => less(await memoryOf(cgroups.memory), none),
    processorNs: async () => Number(await readFile(join(cgroups.processor, 'cpuacct.usage'), 'utf8')),
    async close() {
      await ended(child);
      await client.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** The agent's children stay where it is. */
async function enterCgroups({ lab, state }: Bed): Promise<{ memory: string; processor: string }> {
  const agent = state.processes.find(({ name }) => name === 'sink-agent');
  const folders = {
    memory: join(MEMORY_CGROUPS, lab.cgroup, 'sink-server'),
    processor: join(PROCESSOR_CGROUPS, lab.cgroup, 'sink-server'),
  };
  for (const folder of Object.values(folders)) {
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'cgroup.procs'), String(agent?.pid));
  }
  return folders;
}

async function memoryOf(cgroup: string): Promise<FarmMemory> {
  const stat = await readFile(join(cgroup, 'memory.stat'), 'utf8');
  const of = (key: string) => Number(new RegExp(`^total_${key} (\\d+)`, 'm').exec(stat)?.[1] ?? 0) / 2 ** 20;
  const kernelMiB = Number(await readFile(join(cgroup, 'memory.kmem.usage_in_bytes'), 'utf8')) / 2 ** 20;
  // What has been written to swap and not been let go of is in memory still.
  const anonymousMiB = of('rss') + of('swapcached');
  const [imagesMiB, swappedMiB] = [of('shmem'), of('swap')];
  return { anonymousMiB, imagesMiB, kernelMiB, swappedMiB, totalMiB: anonymousMiB + imagesMiB + kernelMiB };
}

function less(now: FarmMemory, before: FarmMemory): FarmMemory {
  const entries = Object.entries(now).map(([key, value]) => [key, value - before[key as keyof FarmMemory]]);
  return Object.fromEntries(entries) as FarmMemory;
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const closed = new Promise((resolve) => child.once('close', resolve));
  child.stdin?.end();
  await closed;
}
