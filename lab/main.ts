/** `scripts/lab up|down|status|exec`: see USAGE. `SEAMLESS_LAB=NAME` works on another lab beside the usual one. */
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { asSeamlessError, ERRORS, SeamlessError } from '../common/errors.ts';
import { cacheDirectory } from '../template/store.ts';
import type { LabSettings } from './config.ts';
import { dockerSocket } from './docker.ts';
import { takeDown } from './down.ts';
import { commandAt, runHere } from './exec.ts';
import { bringPage } from './page.ts';
import { hostTransport, type LabPlan, planDocker, planLab, planVms, sinkRuntime } from './plan.ts';
import { type RunningProcess, stopProcess } from './processes.ts';
import { serviceNamed, startService } from './services.ts';
import { type LabState, readState, writeState } from './state.ts';
import { describeStatus, labStatus } from './status.ts';
import { bringUp } from './up.ts';

const USAGE = `Usage: scripts/lab up [--vm NAME[:TEMPLATE]]… [--memory MIB] [--native] [--transport local|ssh] [--sink namespaces|docker] [--sink-server vm]
                       [--no-services] [--policy FILE [--sample-ms N]] [--page]
       scripts/lab page                                       (of a lab that is up with --page: at 127.0.0.1, until Ctrl-C)
       scripts/lab exec client|sink|hv|mgmt|vm:NAME -- COMMAND…
       scripts/lab status [--json]
       scripts/lab stop orchestrator|sink-agent [--kill]      (--kill: by SIGKILL, as in a crash)
       scripts/lab start orchestrator|sink-agent
       scripts/lab down`;
const DEFAULT_MEMORY_MIB = 1024;
const SOURCE = join(import.meta.dirname, '..');
const STOP_MS = 10_000;

async function main(): Promise<number> {
  const { values, positionals } = parseArguments();
  const [command, ...rest] = positionals;
  const lab = planLab(process.env.SEAMLESS_LAB, cacheDirectory(process.env));
  const report = (line: string) => process.stderr.write(`lab: ${line}\n`);
  if (command === 'exec') {
    const [where, ...argv] = rest;
    if (where === undefined || argv.length === 0) throw usage('expected a place and a command');
    // So that `lab exec sink -- docker ps` finds the lab's own daemon.
    process.env.DOCKER_HOST = `unix://${dockerSocket(planDocker(lab))}`;
    return runHere(commandAt(lab, stateOf(lab), where, argv));
  }
  if (command === 'stop' || command === 'start') {
    const service = serviceNamed(rest[0]);
    const state = stateOf(lab);
    if (service.host === 'sink' && state.sinkServer)
      throw usage(
        'expected a service of this machine; the sink agent is a unit of the sink server: scripts/lab exec sink -- systemctl',
      );
    const former = state.processes.find(({ name }) => name === service.name);
    if (former) await stopProcess(former, values.kill ? 0 : STOP_MS);
    const note = (running: RunningProcess) => {
      const others = state.processes.filter(({ name }) => name !== service.name);
      writeState(lab, { ...state, processes: [...others, running] });
    };
    if (command === 'start') await startService(lab, SOURCE, service, note, abortOnSignals());
    return 0;
  }
  if (command === 'page') return showPage(lab);
  if (rest.length > 0) throw usage(`unexpected ${rest.join(' ')}`);
  switch (command) {
    case 'up': {
      const started = performance.now();
      const memoryMiB = Number(values.memory ?? DEFAULT_MEMORY_MIB);
      if (!Number.isInteger(memoryMiB) || memoryMiB < 256)
        throw usage('expected --memory of at least 256 MiB');
      const vms = planVms(lab, values.vm ?? ['vm1'], memoryMiB);
      await bringUp({
        lab,
        vms,
        source: SOURCE,
        services: values['no-services'] !== true,
        native: values.native === true,
        transport:
          values.transport === undefined ? hostTransport(process.env) : transportOf(values.transport),
        sink: values.sink === undefined ? sinkRuntime(process.env) : sinkOf(values.sink),
        sinkServer: sinkServerOf(values['sink-server']),
        settings: settingsOf(values),
        report,
        signal: abortOnSignals(),
      });
      report(`up in ${((performance.now() - started) / 1000).toFixed(1)} s`);
      print(values.json ? JSON.stringify(labStatus(lab)) : describeStatus(labStatus(lab)));
      return 0;
    }
    case 'down':
      await takeDown(lab, report);
      return 0;
    case 'status':
      print(values.json ? JSON.stringify(labStatus(lab)) : describeStatus(labStatus(lab)));
      return 0;
    default:
      throw usage(command === undefined ? 'no command given' : `unknown command ${command}`);
  }
}

async function showPage(lab: LabPlan): Promise<number> {
  stateOf(lab);
  const page = await bringPage(lab, SOURCE);
  print(`${page.url}  token: ${page.token}`);
  const signal = abortOnSignals();
  await new Promise((resolve) => signal.addEventListener('abort', resolve));
  await page.close();
  return 0;
}

function stateOf(lab: LabPlan): LabState {
  const state = readState(lab);
  if (state) return state;
  throw new SeamlessError('PREREQUISITE_MISSING', 'the lab is down; run scripts/lab up');
}

function parseArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        vm: { type: 'string', multiple: true },
        memory: { type: 'string' },
        native: { type: 'boolean' },
        transport: { type: 'string' },
        sink: { type: 'string' },
        'sink-server': { type: 'string' },
        policy: { type: 'string' },
        'sample-ms': { type: 'string' },
        page: { type: 'boolean' },
        'no-services': { type: 'boolean' },
        json: { type: 'boolean' },
        kill: { type: 'boolean' },
      },
    });
  } catch (error) {
    throw usage(error instanceof Error ? error.message : String(error));
  }
}

function transportOf(value: string): 'local' | 'ssh' {
  if (value === 'local' || value === 'ssh') return value;
  throw usage(`expected --transport local or ssh, got ${value}`);
}

function sinkOf(value: string): 'namespaces' | 'docker' {
  if (value === 'namespaces' || value === 'docker') return value;
  throw usage(`expected --sink namespaces or docker, got ${value}`);
}

function sinkServerOf(value = 'host'): 'host' | 'vm' {
  if (value === 'host' || value === 'vm') return value;
  throw usage(`expected --sink-server host or vm, got ${value}`);
}

/** The service checks both. */
function settingsOf(values: { policy?: string; 'sample-ms'?: string; page?: boolean }): LabSettings {
  const { policy, 'sample-ms': sampleMs, page = false } = values;
  return {
    page,
    ...(policy === undefined ? {} : { policy: resolve(policy) }),
    ...(sampleMs === undefined ? {} : { sampleMs: Number(sampleMs) }),
  };
}

/** Ctrl-C leaves nothing behind either. */
function abortOnSignals(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(name, () => controller.abort(new SeamlessError('ABORTED', `ended by ${name}`)));
  return controller.signal;
}

function usage(problem: string): SeamlessError {
  return new SeamlessError('REQUEST_INVALID', `${problem}\n${USAGE}`);
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

try {
  process.exitCode = await main();
} catch (thrown) {
  const error = asSeamlessError(thrown);
  process.stderr.write(`lab: ${error.message}\n`);
  process.exitCode = ERRORS[error.code].exit;
}
