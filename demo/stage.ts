/** Everything that the demo and the end-to-end tests need around a VM: the lab, captures, clients, a look into the guest. */
import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import { namespacePath, planLab } from '../lab/plan.ts';
import { sshConfigPath } from '../lab/ssh.ts';
import { readState } from '../lab/state.ts';
import { type Capture, startCapture } from './capture.ts';
import {
  type Client,
  type ClientHost,
  type EchoClient,
  openEcho,
  openIdleSsh,
  openPing,
  openShell,
  type ShellClient,
} from './clients.ts';
import { Service } from './service.ts';

const scripts = fileURLToPath(new URL('../scripts/', import.meta.url));
const CLIENT_DEVICE = 'prod0';
const ECHO_PORT = 7007;
const MEMORY_MIB = 1024;
/** What the stand-in workload keeps dirty. */
const WORKLOAD_MIB = 640;
const LAB_TIMEOUT_MS = 600_000;

export interface StageOptions {
  vm?: string;
  memoryMiB?: number;
  /** Dirty memory in the guest that is no gateway process's. */
  workloadMiB?: number;
  /** How the orchestrator reaches the hosts: `ssh` unless told, or `local`. */
  transport?: string;
  /** Without a hypervisor: everything as fast as this machine is, but nothing to swap out. */
  native?: boolean;
  /** What sinks are made in; else as SEAMLESS_SINK says. */
  sink?: string;
  /** The service has a policy and asks so often; nothing is parked before `setPolicy`. */
  sampleMs?: number;
  /** The service's page is brought to this machine. */
  page?: boolean;
  /** Leaves the lab up, also after a failure. */
  keepLab?: boolean;
}

export interface Stage {
  vm: string;
  address: string;
  accel: string;
  /** What `docker ps` says on the sink server; null without Docker. */
  containers(): Promise<string | null>;
  memoryMiB: number;
  /** Value of `$SEAMLESS_DEMO` in the interactive shell. */
  secret: string;
  service: Service;
  /** At the client's interface. */
  wire: Capture;
  /** At the VM's tap on its host. */
  tap: Capture;
  clients: Client[];
  shell: ShellClient;
  idleSsh: Client;
  echo: EchoClient;
  /** Memory of the VM's QEMU process that is in RAM. */
  residentMiB(): Promise<number>;
  /** systemd's view of ssh.service: what must not change. */
  sshUnit(): Promise<Record<string, string>>;
  /** Makes the client ask by ARP again. */
  forgetNeighbour(): Promise<void>;
  /** Logs in anew, runs `command`, gives its output. */
  newLogin(command: string, timeoutMs: number): Promise<string>;
  /** Resolves when the service no longer says `parked`. */
  unparkStarted(): Promise<void>;
  inVm(argv: string[]): Promise<string>;
  /** Writes the service's policy, which it takes by itself. */
  setPolicy(text: string): Promise<void>;
  /** A command on the client's host. */
  inClient(argv: [string, ...string[]], timeoutMs: number): Promise<string>;
  close(): Promise<void>;
}

/** Brings up the lab with one VM, users on it, and everything that watches. On failure nothing is left behind. */
export async function prepareStage(
  say: (text: string) => void,
  signal: AbortSignal,
  options: StageOptions = {},
): Promise<Stage> {
  const { vm = 'vm1', memoryMiB = MEMORY_MIB, workloadMiB = WORKLOAD_MIB } = options;
  const { transport = 'ssh', native = false, keepLab = false, page = false } = options;
  const closers: (() => Promise<void>)[] = [];
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer();
    if (!keepLab) await labCommand(['down']);
  };
  try {
    const size = ['--vm', vm, '--memory', String(memoryMiB)];
    const sink = options.sink === undefined ? [] : ['--sink', options.sink];
    const how = [
      '--transport',
      transport,
      ...(native ? ['--native'] : []),
      ...(page ? ['--page'] : []),
      ...sink,
    ];
    const policyFile = options.sampleMs === undefined ? null : await makePolicyFile(closers);
    const policy = policyFile ? ['--policy', policyFile, '--sample-ms', String(options.sampleMs)] : [];
    await labCommand(['up', ...size, ...how, ...policy], signal);
    return await setStage({ vm, memoryMiB, workloadMiB, policyFile }, say, closers, close);
  } catch (thrown) {
    await close();
    throw thrown;
  }
}

async function setStage(
  {
    vm,
    memoryMiB,
    workloadMiB,
    policyFile,
  }: { vm: string; memoryMiB: number; workloadMiB: number; policyFile: string | null },
  say: (text: string) => void,
  closers: (() => Promise<void>)[],
  close: Stage['close'],
): Promise<Stage> {
  const lab = planLab(process.env['SEAMLESS_LAB'], process.env['SEAMLESS_CACHE'] ?? '/var/cache/seamless');
  const state = readState(lab);
  const placed = state?.vms.find((candidate) => candidate.name === vm);
  if (!state || !placed) throw new SeamlessError('INTERNAL', `Expected the lab’s state to name ${vm}`);
  const address = (placed.production.addresses[0].split('/') as [string])[0];
  const inVm = async (argv: string[]) =>
    (await exec([`${scripts}lab`, 'exec', `vm:${vm}`, '--', ...argv], { timeoutMs: 60_000 })).stdout;

  say(`in ${vm}: an echo service, and a workload that dirties ${workloadMiB} MiB`);
  const unit = ['systemd-run', '--quiet', '--collect'];
  await inVm([
    ...unit,
    '--unit=echo',
    '--property=NotifyAccess=all',
    'socat',
    `TCP-LISTEN:${ECHO_PORT},fork,reuseaddr`,
    'PIPE',
  ]);
  await inVm([
    ...unit,
    '--unit=workload',
    '--property=Type=notify',
    '--property=NotifyAccess=all',
    'perl',
    '-e',
    workload(workloadMiB),
  ]);

  const wire = await startCapture(namespacePath(lab, 'client'), CLIENT_DEVICE, `host ${address}`);
  closers.push(() => wire.stop());
  const tap = await startCapture(
    namespacePath(lab, 'hv'),
    placed.production.tap,
    `tcp and src host ${address}`,
  );
  closers.push(() => tap.stop());

  say('clients: an interactive ssh session, an idle ssh -N, an echo client, a ping');
  const host: ClientHost = {
    netns: namespacePath(lab, 'client'),
    sshOptions: ['-F', sshConfigPath(lab)],
    capture: wire,
  };
  const clients: Client[] = [];
  const keep = <C extends Client>(client: C): C => {
    clients.push(client);
    closers.push(() => client.terminal.close());
    return client;
  };
  const secret = randomUUID();
  const shell = keep(await openShell(host, address, ['SEAMLESS_DEMO', secret]));
  const idleSsh = keep(await openIdleSsh(host, address));
  const echo = keep(await openEcho(host, address, ECHO_PORT));
  keep(await openPing(host, address));
  await echo.send(10_000);

  const inClient = (argv: string[], timeoutMs: number) =>
    exec(['nsenter', `--net=${host.netns}`, '--', ...argv], { timeoutMs });
  const service = new Service(`${scripts}seamless`, join(lab.runDirectory, 'seamless.sock'));
  return {
    vm,
    address,
    accel: state.accel,
    containers: async () => {
      if (state.sink !== 'docker') return null;
      const format = 'table {{.ID}}\t{{.Image}}\t{{.Status}}\t{{.Names}}';
      const ps = [`${scripts}lab`, 'exec', 'sink', '--', 'docker', 'ps', '--format', format] as const;
      return (await exec(ps)).stdout;
    },
    memoryMiB,
    secret,
    service,
    wire,
    tap,
    clients,
    shell,
    idleSsh,
    echo,
    inVm,
    setPolicy: (text) => writeFile(policyFile ?? '', text),
    inClient: async (argv, timeoutMs) => (await inClient(argv, timeoutMs)).stdout,
    close,
    residentMiB: () => residentMiB(state.processes.find((process) => process.name.includes(vm))?.pid),
    sshUnit: async () => {
      const properties = ['ActiveState', 'SubState', 'NRestarts', 'MainPID', 'InvocationID', 'StatusErrno'];
      const text = await inVm([
        'systemctl',
        'show',
        'ssh',
        ...properties.map((name) => `--property=${name}`),
      ]);
      return Object.fromEntries(text.split('\n').map((line) => line.split('=', 2)));
    },
    forgetNeighbour: async () => {
      await inClient(['ip', 'neigh', 'flush', 'to', address], 5000);
    },
    newLogin: async (command, timeoutMs) => {
      const ssh = ['ssh', ...host.sshOptions, `root@${address}`, command];
      return (await inClient(ssh, timeoutMs)).stdout;
    },
    unparkStarted: async () => {
      const deadline = Date.now() + 10_000;
      while ((await service.show(vm)).state === 'parked' && Date.now() < deadline) await delay(20);
    },
  };
}

/** One by which nothing is parked: whoever sets the stage must not be taken for gone. */
async function makePolicyFile(closers: (() => Promise<void>)[]): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'seamless-demo-'));
  closers.push(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, 'policy.yaml');
  await writeFile(file, 'version: 1\ndefaults: { park: never }\n');
  return file;
}

/** Says READY when the memory is dirty, so that `systemd-run` returns then; afterwards it does nothing, as an idle program. */
function workload(mib: number): string {
  const ready = `use Socket; socket(my $s, AF_UNIX, SOCK_DGRAM, 0); send($s, "READY=1", 0, sockaddr_un($ENV{NOTIFY_SOCKET}))`;
  // In place: `"Z" x N` as an expression would be folded by the compiler and held twice.
  return `my $m = "Z"; $m x= ${mib} << 20; ${ready}; sleep 3600 while 1`;
}

async function residentMiB(pid: number | undefined): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Math.round(Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024);
}

/** The lab says itself what it does, on standard error. */
async function labCommand(args: string[], signal?: AbortSignal): Promise<void> {
  await execa(`${scripts}lab`, args, {
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: 'inherit',
    timeout: LAB_TIMEOUT_MS,
    ...(signal ? { cancelSignal: signal } : {}),
  });
}
