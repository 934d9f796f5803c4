/**
 * A bed: the lab with VMs of one template that has all applications, and a client. `native` boots the template's systemd as a container
 * ("container as VM"), `qemu` a virtual machine.
 */
import { copyFile, mkdir, readdir, rm, rmdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ERRORS } from '../../common/errors.ts';
import { takeDown } from '../../lab/down.ts';
import { type LabPlan, namespacePath, planLab, planVms, type VmPlan } from '../../lab/plan.ts';
import type { LabState } from '../../lab/state.ts';
import { bringUp } from '../../lab/up.ts';
import { type ApiClient, apiClient } from '../../orchestrator/cli/client.ts';
import { buildTemplate } from '../../template/build.ts';
import { cacheDirectory } from '../../template/store.ts';
import type { ClientNetwork } from '../../test/e2e/gateways/application.ts';
import { Guest } from '../../test/e2e/gateways/guest.ts';
import { clientNetwork } from '../../test/e2e/gateways/stage.ts';
import { ALL_UNITS, PACKAGES } from './applications.ts';

export type BedKind = 'native' | 'qemu';

export interface BedVm {
  plan: VmPlan;
  guest: Guest;
  net: ClientNetwork;
}

export interface Bed {
  kind: BedKind;
  lab: LabPlan;
  state: LabState;
  vms: BedVm[];
  api: ApiClient;
  /** Path of the client's network namespace. */
  clientNetns: string;
  down(): Promise<void>;
}

export interface BedRequest {
  count?: number;
  memoryMiB?: number;
  /** Of the lab's own swap file. */
  swapMiB?: number;
  template?: string;
  /** What sinks are made in. */
  sink?: 'namespaces' | 'docker';
  /** When a sink's memory goes to swap; as usual unless told. */
  pageOutAfterMs?: number;
}

export const SOURCE = fileURLToPath(new URL('../..', import.meta.url));
export const TEMPLATE = 'bench';
/** Logins are how a VM tells that it has booted. */
const SSHD = 'ssh.service';
/** Of cgroup v1. */
export const PROCESSOR_CGROUPS = '/sys/fs/cgroup/cpuacct';
const UP_MS = 600_000;
const quiet = () => {};
const interrupted = new AbortController();

/** Beside a lab that is up by hand. */
export function benchLab(): LabPlan {
  return planLab(process.env['SEAMLESS_LAB'] || 'bench', cacheDirectory(process.env));
}

/** An emulated VM boots for minutes with all the applications enabled: one with none of them, for what sshd alone can show. */
export const BARE_TEMPLATE = 'default';

/**
 * None of the applications starts at boot: a part starts the one that it measures, and Tomcat alone would take six seconds of a processor from
 * each VM's boot, in a lab of twenty VMs two minutes from everything else that starts.
 * @param include Debian packages; those of all applications for the bench's own template
 */
export async function makeTemplate(
  name: string,
  report: (line: string) => void,
  include: readonly string[] = name === TEMPLATE ? PACKAGES : [],
): Promise<void> {
  const notAtBoot = include.length > 0 ? ALL_UNITS.filter((unit) => unit !== SSHD) : [];
  await buildTemplate({
    cache: cacheDirectory(process.env),
    ...{ name, include, notAtBoot, source: SOURCE, report },
  });
}

/** Brings `count` VMs up, with none of the applications running. */
export async function makeBed(
  kind: BedKind,
  {
    count = 1,
    memoryMiB = 2048,
    swapMiB,
    template = TEMPLATE,
    sink = 'namespaces',
    pageOutAfterMs,
  }: BedRequest = {},
): Promise<Bed> {
  const lab = benchLab();
  const names = Array.from({ length: count }, (_, index) => `vm${index + 1}:${template}`);
  const vms = planVms(lab, names, memoryMiB);
  const signal = AbortSignal.any([AbortSignal.timeout(UP_MS), interrupted.signal]);
  const native = kind === 'native';
  const settings = {
    profiles: await profilesOf(template),
    ...(pageOutAfterMs === undefined ? {} : { pageOutAfterMs }),
  };
  const up = {
    ...{ lab, vms, source: SOURCE, services: true, native, sink, settings },
    ...(swapMiB ? { swapMiB } : {}),
    beforeCleanUp: () => sayWhereLogsAre({ lab }),
  };
  const state = await bringUp({ ...up, report: quiet, signal });
  const down = () => takeBedDown(lab);
  const bed: Bed = {
    kind,
    lab,
    state,
    vms: vms.map((plan) => ({
      plan,
      guest: new Guest(lab, state, plan.name),
      net: withoutKeepAlive(clientNetwork(lab, plan.production.addresses[0].split('/')[0] ?? '')),
    })),
    api: apiClient(`${lab.runDirectory}/seamless.sock`),
    clientNetns: namespacePath(lab, 'client'),
    down,
  };
  try {
    // A virtual machine is entered by ssh.
    const units = ALL_UNITS.filter((unit) => native || unit !== SSHD);
    for (const { guest } of bed.vms) {
      // What boots still would start what is stopped here.
      await guest.shell('systemctl is-system-running --wait || true');
      await guest.stop(units);
    }
  } catch (thrown) {
    await sayWhereLogsAre(bed);
    await down();
    throw thrown;
  }
  return bed;
}

/** A bed for a piece of work, and its logs kept when that fails. */
export async function withBed<T>(
  kind: BedKind,
  request: BedRequest,
  work: (bed: Bed) => Promise<T>,
): Promise<T> {
  const bed = await makeBed(kind, request);
  try {
    return await work(bed);
  } catch (thrown) {
    await sayWhereLogsAre(bed);
    throw thrown;
  } finally {
    await bed.down();
  }
}

/** Of a run that failed, not of one that was ended; and what went wrong first is what counts. */
async function sayWhereLogsAre(bed: Pick<Bed, 'lab'>): Promise<void> {
  if (interrupted.signal.aborted) return;
  await keepLogs(bed).then(
    (folder) => process.stderr.write(`bench: its logs are in ${folder}\n`),
    (error: Error) => process.stderr.write(`bench: its logs were not kept: ${error.message}\n`),
  );
}

/** The applications are those of the gateways' tests and may do in a sink what they may there: lighttpd asks for the machine's load. */
async function profilesOf(template: string): Promise<string> {
  const folder = join(SOURCE, 'build/bench/profiles');
  await mkdir(folder, { recursive: true });
  await copyFile(join(SOURCE, 'profiles/apps.yaml'), join(folder, `${template}.yaml`));
  return folder;
}

/** What is needed to find out why a run failed goes with its bed otherwise. @returns the folder, relative to the project */
export async function keepLogs({ lab }: Pick<Bed, 'lab'>): Promise<string> {
  const folder = join('build/bench', basename(lab.runDirectory));
  const to = join(SOURCE, folder);
  await rm(to, { recursive: true, force: true });
  await mkdir(to, { recursive: true });
  const names = await readdir(lab.runDirectory, { recursive: true });
  for (const name of names.filter((each) => each.endsWith('.log')))
    await copyFile(join(lab.runDirectory, name), join(to, name.replaceAll('/', '-')));
  return folder;
}

/**
 * A bed left up would be in the way of the next run, and of everybody's memory. The listener stays: execa's own one ends the process at
 * once when it finds itself alone.
 */
export function takeDownOnSignals(): void {
  const end = async () => {
    if (interrupted.signal.aborted) return;
    interrupted.abort(); // what is coming up stops, and none comes up after it
    await takeBedDown(benchLab()).catch(() => {});
    process.exit(ERRORS.ABORTED.exit);
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void end());
}

async function takeBedDown(lab: LabPlan): Promise<void> {
  await takeDown(lab, quiet);
  // Of farm.ts, empty by now; the lab knows of none in this hierarchy.
  for (const folder of ['sink-server', ''])
    await rmdir(join(PROCESSOR_CGROUPS, lab.cgroup, folder)).catch(() => {});
}

/** ssh's own keep-alives would be taken for a request or its answer. The first word on an option is the one that counts. */
function withoutKeepAlive(net: ClientNetwork): ClientNetwork {
  return { ...net, sshOptions: ['-o', 'ServerAliveInterval=0', ...net.sshOptions] };
}
