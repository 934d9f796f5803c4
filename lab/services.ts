/** SEaMLESS's own services in a lab: the sink agent on the sink server, the orchestrator on the management host. */
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import { templateDirectory, templatePaths } from '../template/store.ts';
import { AGENT_PORT, type HostName, type LabPlan, MANAGEMENT, namespacePath, type VmPlan } from './plan.ts';
import { type RunningProcess, startProcess, waitUntilReady } from './processes.ts';

interface Service {
  name: string;
  host: HostName;
  /** In the repository. */
  program: string;
  config: (lab: LabPlan) => string;
  /** As packaging/systemd has it: garbage is collected before much memory is asked for, since every start of a command copies the page tables. */
  frugal?: boolean;
  ready: (lab: LabPlan) => Promise<boolean>;
}

const READY_MS = 30_000;

/** In starting order: the orchestrator asks the sink agent what became of its sinks. */
const SERVICES: readonly Service[] = [
  {
    name: 'sink-agent',
    host: 'sink',
    program: 'sink-agent/main.ts',
    config: sinkAgentConfigPath,
    frugal: true,
    ready: (lab) => listens(lab, 'sink', `${MANAGEMENT.sink}:${AGENT_PORT}`),
  },
  {
    name: 'orchestrator',
    host: 'mgmt',
    program: 'orchestrator/main.ts',
    config: orchestratorConfigPath,
    ready: (lab) => answers(join(lab.runDirectory, 'seamless.sock')),
  },
];

export function orchestratorConfigPath(lab: LabPlan): string {
  return join(lab.runDirectory, 'seamless.json');
}

export function sinkAgentConfigPath(lab: LabPlan): string {
  return join(lab.runDirectory, 'sink-agent.json');
}

/** Starts those services whose program is there, each when the one before answers. @param started see startSwitch. */
export async function startServices(
  lab: LabPlan,
  source: string,
  started: (process: RunningProcess) => void,
  signal: AbortSignal,
  names: readonly string[] = SERVICES.map(({ name }) => name),
): Promise<void> {
  for (const service of SERVICES.filter(({ name }) => names.includes(name)))
    await startService(lab, source, service, started, signal);
}

/** One service by its name, after a `stop`. */
export function serviceNamed(name: string | undefined): Service {
  const service = SERVICES.find((candidate) => candidate.name === name);
  if (service) return service;
  const names = SERVICES.map((candidate) => candidate.name).join(' or ');
  throw new SeamlessError('REQUEST_INVALID', `expected ${names}, got ${name ?? 'nothing'}`);
}

export async function startService(
  lab: LabPlan,
  source: string,
  service: Service,
  started: (process: RunningProcess) => void,
  signal: AbortSignal,
): Promise<void> {
  const program = join(source, service.program);
  if (!existsSync(program)) return;
  const log = join(lab.runDirectory, `${service.name}.log`);
  const running = startProcess({
    name: service.name,
    argv: [
      process.execPath,
      ...(service.frugal ? ['--max-semi-space-size=1'] : []),
      program,
      '--config',
      service.config(lab),
    ],
    ...(service.frugal ? { env: { MALLOC_ARENA_MAX: '1' } } : {}),
    netns: namespacePath(lab, service.host),
    log,
  });
  started(running);
  await waitUntilReady({ running, log, timeoutMs: READY_MS, signal, probe: () => service.ready(lab) });
}

/** Waits until the vm-agent of `vm` takes connections; a VM whose template has no agent is not waited for. */
export async function waitForVmAgent(
  lab: LabPlan,
  vm: VmPlan,
  running: RunningProcess,
  signal: AbortSignal,
): Promise<void> {
  const { root } = templatePaths(templateDirectory(lab.cache, vm.template));
  if (!existsSync(join(root, 'usr/lib/seamless/app/vm-agent/main.ts'))) return;
  const tcp = `/dev/tcp/${vm.management.address}/${AGENT_PORT}`;
  const probe = () =>
    exec(['nsenter', `--net=${namespacePath(lab, 'mgmt')}`, 'bash', '-c', 'exec 3<>"$0"', tcp], {
      signal,
    }).then(
      () => true,
      () => false,
    );
  try {
    await waitUntilReady({
      running,
      log: join(vm.directory, 'machine.log'),
      timeoutMs: READY_MS,
      signal,
      probe,
    });
  } catch (cause) {
    throw new SeamlessError(
      'AGENT_UNREACHABLE',
      `the vm-agent of ${vm.name} does not listen; see scripts/lab up --no-services, then scripts/lab exec vm:${vm.name} -- journalctl -u seamless-vm-agent`,
      { cause },
    );
  }
}

/** Whether somebody listens on `address` in the namespace; a look, not a connection, which the service would have to refuse. */
async function listens(lab: LabPlan, host: HostName, address: string): Promise<boolean> {
  const { stdout } = await exec([
    'nsenter',
    `--net=${namespacePath(lab, host)}`,
    'ss',
    '-Hltn',
    'src',
    address,
  ]);
  return stdout !== '';
}

function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket);
    connection.once('connect', () => resolve(true)).once('error', () => resolve(false));
    connection.once('connect', () => connection.destroy());
  });
}
