/** `lab exec WHERE -- CMD`: a command on one of the lab's hosts, or in a VM by ssh over the management network. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { SeamlessError } from '../common/errors.ts';
import { HOST_NAMES, type HostName, type LabPlan, namespacePath } from './plan.ts';
import { sshConfigPath } from './ssh.ts';
import type { LabState } from './state.ts';

/** argv that runs `command` at `where`: `client`, `sink`, `hv`, `mgmt`, or `vm:NAME`. */
export function commandAt(
  lab: LabPlan,
  state: LabState,
  where: string,
  command: readonly string[],
): [string, ...string[]] {
  const enter = (host: HostName): [string, ...string[]] => [
    'nsenter',
    `--net=${namespacePath(lab, host)}`,
    '--',
  ];
  const { sinkServer } = state;
  const host = HOST_NAMES.find((name) => name === where && !(name === 'sink' && sinkServer));
  if (host) return [...enter(host), ...command];
  const vm = where === 'sink' ? sinkServer : state.vms.find(({ name }) => where === `vm:${name}`)?.name;
  if (vm === undefined) {
    const places = [...HOST_NAMES, ...state.vms.map(({ name }) => `vm:${name}`)].join(', ');
    throw new SeamlessError('VM_UNKNOWN', `expected one of ${places}, got ${where}`);
  }
  // ssh joins its arguments for the remote shell. One alone is a line for that shell; several arrive as they were given here.
  return [
    ...enter('mgmt'),
    'ssh',
    '-F',
    sshConfigPath(lab),
    `${vm}.mgmt`,
    '--',
    ...(command.length === 1 ? command : command.map(quote)),
  ];
}

/** Runs argv on this terminal. @returns its exit status, 128 + N when signal N ended it. */
export async function runHere(argv: readonly [string, ...string[]]): Promise<number> {
  const [file, ...args] = argv;
  const child = spawn(file, args, { stdio: 'inherit' });
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  return signal ? 128 + constants.signals[signal] : (code ?? 1);
}

function quote(argument: string): string {
  return /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", `'\\''`)}'`;
}
