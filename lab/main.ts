/** `scripts/lab up|down|status|exec`: see USAGE. `SEAMLESS_LAB=NAME` works on another lab beside the usual one. */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { asSeamlessError, ERRORS, SeamlessError } from '../common/errors.ts';
import { cacheDirectory } from '../template/store.ts';
import { takeDown } from './down.ts';
import { commandAt, runHere } from './exec.ts';
import { planLab, planVms } from './plan.ts';
import { readState } from './state.ts';
import { describeStatus, labStatus } from './status.ts';
import { bringUp } from './up.ts';

const USAGE = `Usage: scripts/lab up [--vm NAME[:TEMPLATE]]… [--memory MIB] [--no-services]
       scripts/lab exec client|sink|hv|mgmt|vm:NAME -- COMMAND…
       scripts/lab status [--json]
       scripts/lab down`;
const DEFAULT_MEMORY_MIB = 1024;

async function main(): Promise<number> {
  const { values, positionals } = parseArguments();
  const [command, ...rest] = positionals;
  const lab = planLab(process.env.SEAMLESS_LAB, cacheDirectory(process.env));
  const report = (line: string) => process.stderr.write(`lab: ${line}\n`);
  if (command === 'exec') {
    const [where, ...argv] = rest;
    if (where === undefined || argv.length === 0) throw usage('expected a place and a command');
    const state = readState(lab);
    if (!state) throw new SeamlessError('PREREQUISITE_MISSING', 'the lab is down; run scripts/lab up');
    return runHere(commandAt(lab, state, where, argv));
  }
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
        source: join(import.meta.dirname, '..'),
        services: values['no-services'] !== true,
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

function parseArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        vm: { type: 'string', multiple: true },
        memory: { type: 'string' },
        'no-services': { type: 'boolean' },
        json: { type: 'boolean' },
      },
    });
  } catch (error) {
    throw usage(error instanceof Error ? error.message : String(error));
  }
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
