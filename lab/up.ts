/** `lab up`: from nothing to VMs that let logins in. Each thing is made where `down` looks for it, so that any failure is cleaned up. */
import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { SeamlessError } from '../common/errors.ts';
import { readTemplate, templateDirectory, templatePaths } from '../template/store.ts';
import { chooseAccelerator } from './accelerator.ts';
import { type HostTransports, type LabSettings, orchestratorConfig, sinkAgentConfig } from './config.ts';
import { startDocker } from './docker.ts';
import { takeDownAlone, withLabLock } from './down.ts';
import { startHostSsh } from './host-ssh.ts';
import { waitForRest } from './native-vm.ts';
import { makeNetwork } from './network.ts';
import { startSwitch } from './open-vswitch.ts';
import { issueCertificate, makeAuthority } from './pki.ts';
import { type LabPlan, MANAGEMENT, type MachinePlan, planDocker, SINK_NAME, type VmPlan } from './plan.ts';
import { isRunning, type RunningProcess } from './processes.ts';
import { orchestratorConfigPath, sinkAgentConfigPath, startServices, waitForVmAgent } from './services.ts';
import {
  installSinkAgent,
  planSinkServer,
  SINK_SERVER_TEMPLATE,
  sinkServerHost,
  startSinkServer,
} from './sink-server.ts';
import { makeSshKeys } from './ssh.ts';
import { type LabState, readState, writeState } from './state.ts';
import { addSwap } from './swap.ts';
import { inTurns } from './turns.ts';
import { prepareVm, startVm, waitForBoot } from './vm.ts';

export interface UpRequest {
  lab: LabPlan;
  vms: readonly VmPlan[];
  /** The repository, where the services' programs are. */
  source: string;
  /** false leaves SEaMLESS's own services out: a lab of plain VMs. */
  services: boolean;
  /** Boots the VMs on the host's kernel, as containers, instead of in QEMU. */
  native?: boolean;
  /** Size of the swap file. */
  swapMiB?: number;
  /** How the orchestrator reaches the hosts; `local` unless told. */
  transport?: 'local' | 'ssh';
  /** What sinks are made in; `namespaces` unless told. */
  sink?: 'namespaces' | 'docker';
  /** `vm`: the sink server is a VM of its own; a namespace unless told. */
  sinkServer?: 'host' | 'vm';
  settings?: LabSettings;
  report: (line: string) => void;
  /** Ends it: what is there so far is taken down. */
  signal: AbortSignal;
  /** Told that it failed, while its logs are there still. */
  beforeCleanUp?: () => Promise<void>;
}

export function bringUp(request: UpRequest): Promise<LabState> {
  return withLabLock(request.lab, request.report, () => bringUpAlone(request));
}

async function bringUpAlone(request: UpRequest): Promise<LabState> {
  const { lab, vms, report } = request;
  const former = readState(lab);
  if (former?.phase === 'up' && former.processes.some(isRunning))
    throw new SeamlessError(
      'REQUEST_INVALID',
      'the lab is up already; see scripts/lab status, or take it down first',
    );
  if (request.sinkServer === 'vm' && (request.native || request.sink === 'docker'))
    throw new SeamlessError(
      'REQUEST_INVALID',
      'expected --sink-server vm without --native (what ran on this processor may not run on an emulated one) and without --sink docker',
    );
  for (const vm of vms) await readTemplate(lab.cache, vm.template);
  if (request.sinkServer === 'vm') await readTemplate(lab.cache, SINK_SERVER_TEMPLATE);
  await takeDownAlone(lab, () => {}); // what an interrupted run may have left
  try {
    return await build(request);
  } catch (error) {
    report('failed; cleaning up');
    await request.beforeCleanUp?.();
    await takeDownAlone(lab, () => {});
    throw error;
  }
}

async function build(request: UpRequest): Promise<LabState> {
  const { lab, vms, source, services, native, report, signal } = request;
  const sinkServer = request.sinkServer === 'vm' ? planSinkServer(lab) : undefined;
  const state: LabState = {
    format: 1,
    phase: 'starting',
    accel: native ? 'native' : 'tcg',
    sink: request.sink ?? 'namespaces',
    ...(sinkServer ? { sinkServer: sinkServer.name } : {}),
    vms: [...vms],
    processes: [],
  };
  const started = (running: RunningProcess) => {
    state.processes.push(running);
    writeState(lab, state);
  };
  writeState(lab, state);
  await mkdir(lab.diskDirectory, { recursive: true });
  report('network, keys, swap');
  await together(signal, [
    () => makeNetwork(lab, vms, native === true, sinkServer),
    () => makeKeys(lab, vms, sinkServer),
    () => addSwap(lab, request.swapMiB),
    ...(native ? [] : [() => chooseOnce(lab, vms, state)]),
  ]);
  const byHost =
    request.transport === 'ssh'
      ? await sshTransports(lab, sinkServer !== undefined, started, signal)
      : undefined;
  const commands = new Map<string, Awaited<ReturnType<typeof prepareVm>>>();
  for (const vm of vms) commands.set(vm.name, await prepareVm(lab, vm, state.accel));
  await writeConfiguration(lab, state, commands, byHost, request.settings);
  signal.throwIfAborted();
  report(`booting ${vms.map((vm) => vm.name).join(', ')} (${state.accel}, ${vms[0]?.memoryMiB ?? 0} MiB)`);
  const machines = new Map<VmPlan, RunningProcess>();
  // Twenty native VMs that boot at once leave no processor to who starts beside them. One in QEMU boots on one, and mostly waits.
  const turns = inTurns(native ? availableParallelism() : Number.POSITIVE_INFINITY);
  const boot = async (vm: VmPlan, either: AbortSignal) => {
    either.throwIfAborted();
    const [machine, ...others] = await startVm(lab, vm, commands.get(vm.name) ?? null);
    for (const running of [machine, ...others]) started(running);
    machines.set(vm, machine);
    await waitForBoot(vm, machine, either);
  };
  const waitForSinkServer = sinkServer
    ? await startSinkServer(lab, vms, state.accel === 'kvm' ? 'kvm' : 'tcg', started)
    : undefined;
  const ports = vms.map((vm) => vm.production.port);
  await together(signal, [
    (either) => startSwitch(lab, 'hv', ['client0', ...ports], started, either),
    async (either) => {
      if (!waitForSinkServer) return startSwitch(lab, 'sink', [], started, either);
      await waitForSinkServer(either);
      if (services) await installSinkAgent(lab, source, either);
    },
    ...vms.map(
      (vm) => (either: AbortSignal) =>
        turns(
          () => boot(vm, either),
          () => waitForRest(lab, vm, either),
        ),
    ),
  ]);
  if (services && state.sink === 'docker') await startDocker(planDocker(lab), signal, started);
  if (services) {
    report('starting the services');
    await startServices(lab, source, started, signal, sinkServer ? ['orchestrator'] : undefined);
    await Promise.all([...machines].map(([vm, running]) => waitForVmAgent(lab, vm, running, signal)));
  }
  state.phase = 'up';
  writeState(lab, state);
  return state;
}

/** Like Promise.all, but the first failure aborts the others and they have ended before it is thrown: nothing is made after a clean-up. */
async function together(
  signal: AbortSignal,
  tasks: readonly ((either: AbortSignal) => Promise<void>)[],
): Promise<void> {
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  await Promise.all(tasks.map((task) => task(either).catch((error: unknown) => failed.abort(error))));
  failed.signal.throwIfAborted();
}

async function chooseOnce(lab: LabPlan, vms: readonly VmPlan[], state: LabState): Promise<void> {
  const [first] = vms;
  if (first)
    state.accel = await chooseAccelerator(
      lab.cache,
      templatePaths(templateDirectory(lab.cache, first.template)),
    );
}

async function makeKeys(lab: LabPlan, vms: readonly VmPlan[], sinkServer?: MachinePlan): Promise<void> {
  await makeSshKeys(lab, sinkServer ? [...vms, sinkServer] : vms);
  const pki = join(lab.runDirectory, 'pki');
  await makeAuthority(pki);
  await issueCertificate(pki, 'orchestrator', 'orchestrator', [MANAGEMENT.orchestrator, '127.0.0.1']);
  await issueCertificate(pki, SINK_NAME, `sink-agent:${SINK_NAME}`, [MANAGEMENT.sink]);
  for (const vm of vms) await issueCertificate(pki, vm.name, `vm-agent:${vm.name}`, [vm.management.address]);
}

async function sshTransports(
  lab: LabPlan,
  sinkServer: boolean,
  started: (process: RunningProcess) => void,
  signal: AbortSignal,
): Promise<HostTransports> {
  const [hv, sink] = await Promise.all([
    startHostSsh(lab, 'hv', started, signal),
    sinkServer
      ? sinkServerHost(lab).then(({ transport }) => transport)
      : startHostSsh(lab, 'sink', started, signal),
  ]);
  return { hv, sink };
}

async function writeConfiguration(
  lab: LabPlan,
  { vms, accel, sink, sinkServer }: LabState,
  commands: ReadonlyMap<string, readonly string[] | null>,
  transports: HostTransports | undefined,
  settings: LabSettings | undefined,
): Promise<void> {
  const host = sinkServer === undefined ? undefined : await sinkServerHost(lab);
  const text = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
  await writeFile(
    orchestratorConfigPath(lab),
    text(orchestratorConfig(lab, vms, accel, commands, transports, settings, host)),
  );
  await writeFile(sinkAgentConfigPath(lab), text(sinkAgentConfig(lab, sink, settings)));
}
