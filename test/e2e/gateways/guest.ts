/** The inside of a VM of the lab: commands as root, files, units. A native VM is entered by its namespaces, another by ssh. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SeamlessError } from '../../../common/errors.ts';
import { exec } from '../../../common/exec.ts';
import { commandAt } from '../../../lab/exec.ts';
import type { LabPlan } from '../../../lab/plan.ts';
import type { LabState } from '../../../lab/state.ts';

export interface UnitFacts {
  ActiveState: string;
  SubState: string;
  MainPID: string;
  NRestarts: string;
  InvocationID: string;
}

const FACTS = ['ActiveState', 'SubState', 'MainPID', 'NRestarts', 'InvocationID'];
const COMMAND_MS = 60_000;
const ACTIVE_MS = 60_000;
/** Of Tomcat on an emulated processor, which takes a minute or more. */
const EMULATED_ACTIVE_MS = 240_000;
const POLL_MS = 50;
const PATH = 'PATH=/usr/sbin:/usr/bin:/sbin:/bin';

export class Guest {
  readonly #enter: (command: readonly string[]) => [string, ...string[]];
  readonly #activeMs: number;

  constructor(lab: LabPlan, state: LabState, vm: string) {
    const place = `vm:${vm}`;
    this.#activeMs = state.accel === 'tcg' ? EMULATED_ACTIVE_MS : ACTIVE_MS;
    this.#enter =
      state.accel === 'native'
        ? (command) => ['nsenter', '--target', `${firstProcess(state, vm)}`, ...NAMESPACES, '--', ...command]
        : (command) => commandAt(lab, state, place, command);
  }

  /** Runs argv as root; gives its output. */
  async run(...argv: string[]): Promise<string> {
    const command = this.#enter(['env', PATH, 'LANG=C.UTF-8', ...argv]);
    return (await exec(command, { timeoutMs: COMMAND_MS })).stdout;
  }

  /** A line for the shell. */
  async shell(line: string, timeoutMs = COMMAND_MS): Promise<string> {
    return (await exec(this.#enter(['env', PATH, 'LANG=C.UTF-8', 'sh', '-c', line]), { timeoutMs })).stdout;
  }

  async write(path: string, text: string, mode = '644'): Promise<void> {
    await this.run('mkdir', '-p', join(path, '..'));
    const command = this.#enter(['sh', '-c', 'cat >"$0" && chmod "$1" "$0"', path, mode]);
    await exec(command, { input: text, timeoutMs: COMMAND_MS });
  }

  async facts(unit: string): Promise<UnitFacts> {
    const text = await this.run('systemctl', 'show', unit, ...FACTS.map((name) => `--property=${name}`));
    return Object.fromEntries(text.split('\n').map((line) => line.split('=', 2))) as unknown as UnitFacts;
  }

  /** Starts units, waits until each is active, and until all that is in `listens` is listened on. */
  async start(units: readonly string[], listens: readonly string[] = []): Promise<void> {
    await this.run('systemctl', 'start', ...units);
    const deadline = performance.now() + this.#activeMs;
    for (const unit of units)
      while ((await this.facts(unit)).ActiveState !== 'active') {
        if (performance.now() > deadline)
          throw new SeamlessError('TIMEOUT', `${unit} is not active: ${await this.journal(unit)}`);
        await delay(POLL_MS);
      }
    for (const socket of listens) await this.listening(socket);
  }

  /** Stops units; one that is not there is stopped. None is left failed: one that wanted another's port at boot has used its starts up. */
  async stop(units: readonly string[]): Promise<void> {
    await this.run('systemctl', 'stop', ...units).catch((error: SeamlessError) => {
      const said = String(error.details['output']).split('\n').filter(Boolean);
      if (said.length === 0 || !said.every((line) => line.includes('not loaded'))) throw error;
    });
    await this.run('systemctl', 'reset-failed');
  }

  /** Waits until something listens on `tcp/PORT` or `udp/PORT`. */
  async listening(socket: string): Promise<void> {
    const [protocol, port] = socket.split('/');
    const deadline = performance.now() + this.#activeMs;
    while ((await this.run('ss', '-Hln', `--${protocol}`, 'sport', '=', `:${port}`)) === '') {
      if (performance.now() > deadline) throw new SeamlessError('TIMEOUT', `nobody listens on ${socket}`);
      await delay(POLL_MS);
    }
  }

  /** The last lines of a unit's journal. */
  journal(unit: string, lines = 15): Promise<string> {
    return this.run('journalctl', '--no-pager', '--output=cat', `--lines=${lines}`, `--unit=${unit}`);
  }
}

const NAMESPACES = ['--mount', '--uts', '--ipc', '--net', '--pid'];

/** PID 1 of a native VM, as the host numbers it. */
export function firstProcess(state: LabState, vm: string): number {
  const { pid } = state.processes.find(({ name }) => name === vm) ?? { pid: 0 };
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim());
}
