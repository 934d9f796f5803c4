/**
 * Wakes a parked native VM by baseline.sh instead of by the product: on the same bed, from the same sink, by the same trigger. The
 * orchestrator is stopped meanwhile, and afterwards nobody knows what is where: the bed is to be taken down.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { SeamlessError } from '../../common/errors.ts';
import { exec } from '../../common/exec.ts';
import { dumpArguments, restoreArguments } from '../../criu/arguments.ts';
import type { Manifest, ProcessTree } from '../../criu/manifest.ts';
import { openflowSocket } from '../../lab/open-vswitch.ts';
import { FREEZER_CGROUPS, namespacePath, nativeCgroup, TUNNEL_PORT } from '../../lab/plan.ts';
import { stopProcess } from '../../lab/processes.ts';
import { bufferSocket } from '../../orchestrator/packet-buffer/packet-buffer.ts';
import { cookieOf } from '../../ovs/flows.ts';
import { cgroupName, portName } from '../../sink-agent/names.ts';
import { renameExternals } from '../../sink-agent/restore/stand-ins.ts';
import { processesIn, treeCgroup } from '../../sink-agent/sandbox/cgroup.ts';
import { byInnerPid, identify } from '../../sink-agent/sandbox/process.ts';
import { AGENT_FOLDER, enter } from '../../sink-agent/sandbox/sandbox.ts';
import { firstProcess } from '../../test/e2e/gateways/guest.ts';
import type { Bed, BedVm } from './bed.ts';

export type Pipeline = 'baseline' | 'floor';

/** Milliseconds of each step of baseline.sh, by its name. */
export type PipelineTimes = Record<string, number>;

/** Name of its image; none of the product's has it. */
const IMAGE = 'bench';
const SSH_PORT = 2022;
const STOP_MS = 10_000;
const DONE_MS = 60_000;
/** The first number for inherited descriptors: above what a shell opens itself. */
const FIRST_FD = 200;
const GUEST_PATH = 'PATH=/usr/sbin:/usr/bin:/sbin:/bin';

/** Stops the orchestrator and waits for the next trigger in `vm`'s sink; resolves when it does. `done`: the processes run in the VM. `stoppedAt`: when they were stopped here, in milliseconds since the epoch. */
export async function armPipeline(
  bed: Bed,
  vm: BedVm,
  which: Pipeline,
): Promise<{ done: Promise<PipelineTimes>; stoppedAt: Promise<number> }> {
  const orchestrator = bed.state.processes.find(({ name }) => name === 'orchestrator');
  if (orchestrator) await stopProcess(orchestrator, STOP_MS);
  const plan = join(bed.lab.runDirectory, 'pipeline');
  await rm(plan, { recursive: true, force: true });
  await mkdir(plan, { recursive: true, mode: 0o700 });
  await writePlan(bed, vm, plan);
  const child = spawn(join(import.meta.dirname, 'baseline.sh'), [which, plan], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const at: [string, number][] = [];
  const waiting = Promise.withResolvers<void>();
  const stopped = Promise.withResolvers<number>();
  createInterface({ input: child.stdout }).on('line', (line) => {
    const [name = '', seconds] = line.split(' ');
    at.push([name, Number(seconds) * 1000]);
    if (name === 'waiting') waiting.resolve();
    if (name === 'trigger') stopped.resolve(Number(seconds) * 1000);
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), DONE_MS);
  const done = new Promise<PipelineTimes>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(timer);
      if (code === 0) return resolve(durations(at));
      const last = at.at(-1)?.[0] ?? 'nothing';
      reject(
        new SeamlessError(
          'COMMAND_FAILED',
          `baseline.sh ${which} failed after ${last}: ${said.trim().slice(-600)}`,
        ),
      );
    });
  });
  done.catch(waiting.reject);
  done.catch(stopped.reject);
  stopped.promise.catch(() => {}); // `done` tells
  await waiting.promise;
  return { done, stoppedAt: stopped.promise };
}

function durations(at: readonly [string, number][]): PipelineTimes {
  return Object.fromEntries(at.slice(1).map(([name, ms], index) => [name, ms - (at[index]?.[1] ?? ms)]));
}

async function writePlan(bed: Bed, vm: BedVm, plan: string): Promise<void> {
  const { lab } = bed;
  const { name } = vm.plan;
  const pid1 = firstProcess(bed.state, name);
  const cgroup = join(FREEZER_CGROUPS, lab.cgroup, cgroupName(name));
  const images = join(lab.runDirectory, 'sink/images', name);
  const manifest = await parkedImage(images);
  const trees = await asInSink(manifest, cgroup);
  const inside = `/run/${IMAGE}`;
  const [init] = (await processesIn(join(cgroup, 'helper'))).filter((pid) => commandOf(pid) === 'catatonit');
  const sandbox = identify(init ?? -1);
  if (!sandbox) throw new SeamlessError('INTERNAL', `Expected the first process of ${name}'s sink`);
  for (const tree of trees) {
    const dump = dumpArguments(manifest.criuVersion, {
      root: tree.root,
      folder: `${AGENT_FOLDER}/images/${IMAGE}/tree-${tree.root}`,
      externals: tree.externals.map(({ dumpKey }) => dumpKey),
      leaderless: tree.leaderless === true,
      watchedPaths: tree.watchedPaths ?? [],
      freezeCgroup: `${AGENT_FOLDER}/cgroup/${treeCgroup(tree.root)}`,
    });
    const preload = `LD_PRELOAD=${AGENT_FOLDER}/limits.so`;
    const inherit = tree.externals.map(({ restoreKey }, index) => ({
      fd: FIRST_FD + index,
      key: restoreKey,
    }));
    const folder = `${tree.namespaces.includes('mnt') ? '/proc/1/root' : ''}${inside}/tree-${tree.root}`;
    const restore = restoreArguments(manifest.criuVersion, {
      leaderless: tree.leaderless === true,
      folder,
      inherit,
    });
    const file = (what: string) => join(plan, `tree-${tree.root}.${what}`);
    await writeArgv(file('dump'), [...enter(sandbox), 'env', preload, 'criu', ...dump]);
    await writeArgv(file('restore'), [...enterTree(pid1, tree), 'setsid', '--wait', 'criu', ...restore]);
    const ends = await Promise.all(
      tree.externals.map(async ({ kind, owner }, index) => {
        const path = join(plan, `fifo-${tree.root}-${index}`);
        if (kind === 'session-fifo') await exec(['mkfifo', '--mode=0600', path]);
        return `${FIRST_FD + index} ${kind === 'session-fifo' ? path : kind === 'device' ? owner : '/dev/null'}\n`;
      }),
    );
    await writeFile(file('inherit'), ends.join(''));
  }
  await writeFile(join(plan, 'trees'), trees.map(({ root }) => `tree-${root}\n`).join(''));
  await writeFlows(vm, plan);
  const scp = await startSshd(bed, vm, pid1, plan);
  const settings: Record<string, string | readonly string[]> = {
    processes: join(cgroup, 'processes'),
    vm_cgroup: nativeCgroup(lab, name),
    images: join(images, IMAGE),
    inside: `/proc/${pid1}/root${inside}`,
    cookie: `0x${cookieOf(name).toString(16)}`,
    hv: openflowSocket(lab, 'hv'),
    sink: openflowSocket(lab, 'sink'),
    buffer: bufferSocket(join(lab.runDirectory, 'orchestrator/hosts/hv'), name),
    enter_vm: [...enterTree(pid1, { root: 1, namespaces: [], processes: [] })],
    highest: String(Math.max(...trees.flatMap(({ processes }) => processes.map(({ pid }) => pid)))),
    scp,
    target: `root@${vm.plan.management.address}`,
  };
  const lines = Object.entries(settings).map(([key, value]) =>
    typeof value === 'string' ? `${key}=${quote(value)}\n` : `${key}=(${value.map(quote).join(' ')})\n`,
  );
  await writeFile(join(plan, 'settings'), lines.join(''));
}

/** The image that the sink lives from: the only one there. */
async function parkedImage(images: string): Promise<Manifest> {
  const there = existsSync(images) ? readdirSync(images) : [];
  const [image] = there.filter((name) => name !== IMAGE && !name.startsWith('.'));
  if (image === undefined)
    throw new SeamlessError(
      'INTERNAL',
      'Expected a parked VM, got one that has been woken before it was asked',
    );
  return JSON.parse(await readFile(join(images, image, 'manifest.json'), 'utf8')) as Manifest;
}

function asInSink(manifest: Manifest, cgroup: string): Promise<ProcessTree[]> {
  return Promise.all(
    manifest.trees.map(async (tree) => {
      const hostPids = await byInnerPid(await processesIn(join(cgroup, treeCgroup(tree.root))));
      return { ...tree, externals: await renameExternals(tree.externals, (pid) => hostPids.get(pid)) };
    }),
  );
}

/** Into the VM, and into the namespaces of the tree's unit, which a placeholder keeps. */
function enterTree(pid1: number, tree: Pick<ProcessTree, 'root' | 'namespaces' | 'processes'>): string[] {
  const home = tree.processes.find(({ pid }) => pid === tree.root)?.cgroup ?? '';
  const from = (kind: 'mnt' | 'uts') => (tree.namespaces.includes(kind) ? keeperOf(pid1, home) : pid1);
  const own = [`--mount=/proc/${from('mnt')}/ns/mnt`, `--uts=/proc/${from('uts')}/ns/uts`];
  return ['nsenter', '--target', `${pid1}`, '--ipc', '--net', '--pid', ...own, '--', 'env', GUEST_PATH];
}

function keeperOf(pid1: number, cgroup: string): number {
  const namespace = readlinkSync(`/proc/${pid1}/ns/pid`);
  const found = readdirSync('/proc')
    .map(Number)
    .find(
      (pid) =>
        Number.isInteger(pid) &&
        commandOf(pid) === 'stand-ins' &&
        readlinkSync(`/proc/${pid}/ns/pid`) === namespace &&
        readFileSync(`/proc/${pid}/cgroup`, 'utf8').trimEnd().endsWith(cgroup),
    );
  if (found) return found;
  throw new SeamlessError('INTERNAL', `Expected a placeholder in ${cgroup}`);
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
}

/** The flows of the state `awake` (ovs/flows.ts), as one would write them by hand. */
async function writeFlows({ plan: { name, production } }: BedVm, folder: string): Promise<void> {
  const flow = (priority: number, rest: string) =>
    `cookie=0x${cookieOf(name).toString(16)},priority=${priority},${rest}\n`;
  const to = `dl_dst=${production.mac}`;
  await writeFile(join(folder, 'flows-hv'), flow(1000, `${to},actions=output:${production.port}`));
  const sink = [
    flow(1000, `${to},actions=output:${TUNNEL_PORT}`),
    flow(1050, `in_port=${TUNNEL_PORT},${to},actions=in_port`),
    flow(1200, `in_port=${portName(name)},actions=drop`),
  ];
  await writeFile(join(folder, 'flows-sink'), sink.join(''));
}

/** The VM's own sshd may be parked: one of the machine's in its network instead. @returns the start of scp's argv, on the sink's host */
async function startSshd({ lab }: Bed, { plan: vm }: BedVm, pid1: number, folder: string): Promise<string[]> {
  await mkdir('/run/sshd', { recursive: true, mode: 0o755 });
  for (const key of ['host', 'client'])
    await exec(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', join(folder, key)]);
  await writeFile(join(folder, 'authorized_keys'), await readFile(join(folder, 'client.pub')));
  const config = [
    `ListenAddress ${vm.management.address}:${SSH_PORT}`,
    `HostKey ${folder}/host`,
    `AuthorizedKeysFile ${folder}/authorized_keys`,
    `PidFile ${folder}/sshd.pid`,
    'StrictModes no',
    'UsePAM no',
    'Subsystem sftp internal-sftp',
  ];
  await writeFile(join(folder, 'sshd_config'), `${config.join('\n')}\n`);
  await exec(['nsenter', `--net=/proc/${pid1}/ns/net`, '/usr/sbin/sshd', '-f', join(folder, 'sshd_config')]);
  const anyHost = [
    '-o',
    'StrictHostKeyChecking=no',
    '-o',
    'UserKnownHostsFile=/dev/null',
    '-o',
    'LogLevel=ERROR',
  ];
  const enterSink = ['nsenter', `--net=${namespacePath(lab, 'sink')}`];
  return [
    ...enterSink,
    'scp',
    '-q',
    '-F',
    '/dev/null',
    '-i',
    join(folder, 'client'),
    ...anyHost,
    '-P',
    `${SSH_PORT}`,
  ];
}

/** Ends what `armPipeline` has left running; the bed itself is to be taken down. */
export async function disarmPipeline({ lab }: Bed): Promise<void> {
  const pid = Number(await readFile(join(lab.runDirectory, 'pipeline/sshd.pid'), 'utf8').catch(() => '0'));
  if (pid > 0 && commandOf(pid) === 'sshd') process.kill(pid, 'SIGTERM');
}

function writeArgv(path: string, argv: readonly string[]): Promise<void> {
  return writeFile(path, argv.map((word) => `${word}\0`).join(''));
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
