/** `seamless list`, `show`, `explain`, `park`, `unpark` */
import type { Command } from 'commander';
import { SeamlessError } from '../../common/errors.ts';
import type { OperationReply, VmDetail } from '../api/vms.ts';
import { type Explanation, explanationText } from '../idle/explain.ts';
import type { HostMemory } from '../memory/ledger.ts';
import type { Operation } from '../vm/operation.ts';
import { allVms } from './all-vms.ts';
import type { ApiClient } from './client.ts';
import { painter } from './colour.ts';
import { followOperation, progress } from './follow.ts';
import { explained, explanation, operationLine, vmTable, vmText } from './render.ts';
import { addCommand, fail, type Options, print, run, vmPath } from './session.ts';

export function addVmCommands(cli: Command): void {
  addCommand(cli, 'list', 'list the registered VMs')
    .option('--state <state...>', 'only those in one of these states')
    .option('--label <label...>', 'only those with all of these labels: KEY=VALUE, or KEY')
    .action((_options, self: Command) =>
      run(self, async (client, { json, state = [], label = [] }) => {
        const vms = await allVms(client, { state, label });
        print(json ? JSON.stringify({ vms }) : vmTable(vms, painter(process.stdout, process.env)));
      }),
    );

  addCommand(cli, 'show', 'show a VM')
    .argument('<vm>')
    .option('--gateways', 'scan it for its gateway processes')
    .action((vm: string, _options, self: Command) =>
      run(self, async (client, { json, gateways }) => {
        const detail = await client.get<VmDetail>(`${vmPath(vm)}${gateways ? '?gateways=true' : ''}`);
        const memory = await hostMemory(client, detail.host);
        print(json ? JSON.stringify({ ...detail, hostMemory: memory }) : vmText(detail, memory));
      }),
    );

  addCommand(cli, 'explain', 'say why a VM is as it is, and what woke it last')
    .argument('<vm>')
    .action((vm: string, _options, self: Command) =>
      run(self, async (client, { json }) => {
        const [detail, decided] = await Promise.all([
          client.get<VmDetail>(vmPath(vm)),
          client.get<Explanation>(`${vmPath(vm)}/explain`),
        ]);
        // Both have `state`: unknown while nobody can look.
        if (json) return print(JSON.stringify({ ...decided, ...explained(detail) }));
        print(`${explanation(detail)}\n${explanationText(decided)}`);
      }),
    );

  addCommand(cli, 'park', 'move a VM’s gateway processes to its sink and switch it off')
    .argument('<vm>')
    .option('--wait', 'until it has ended; so unless told', true)
    .option('--no-wait', 'return at once; the operation goes on')
    .action((vm: string, _options, self: Command) =>
      run(self, (client, options) => operate(client, 'park', vm, options)),
    );

  addCommand(cli, 'unpark', 'switch a VM on and move its gateway processes back')
    .argument('<vm>')
    .option('--wait', 'until it has ended; so unless told', true)
    .option('--no-wait', 'return at once; the operation goes on')
    .option('--force', 'try again what is stuck')
    .action((vm: string, _options, self: Command) =>
      run(self, (client, options) => operate(client, 'unpark', vm, options)),
    );
}

async function operate(
  client: ApiClient,
  kind: 'park' | 'unpark',
  vm: string,
  options: Options,
): Promise<void> {
  const body = options.force ? { force: true } : undefined;
  const reply = await client.post<OperationReply>(`${vmPath(vm)}/${kind}`, body);
  const { operation, already, eventId } = reply;
  if (operation === null) {
    const is = kind === 'park' ? 'parked' : 'awake';
    print(options.json ? JSON.stringify({ vm, already, operation }) : `${vm} is ${is} already`);
    return;
  }
  if (options.wait === false) {
    print(options.json ? JSON.stringify({ vm, already, operation }) : operation.id);
    return;
  }
  const show = options.json && !process.stderr.isTTY ? () => {} : progress(process.stderr);
  const ended = await followOperation(client, operation, already ? 0 : eventId, show);
  // It was past where it could be taken back when we asked: the VM is being woken now.
  const tooLate = kind === 'unpark' && ended.kind === 'park' && ended.status === 'succeeded';
  if (tooLate) return operate(client, kind, vm, options);
  const error = errorOf(kind, ended);
  if (error) return fail(error, options, ended);
  print(options.json ? JSON.stringify({ vm, already, operation: ended }) : `${vm}: ${operationLine(ended)}`);
}

/** A park that an unpark has taken back is a success for whoever wanted the VM. */
function errorOf(wanted: 'park' | 'unpark', { kind, status, error }: Operation): SeamlessError | null {
  if (status === 'succeeded' && kind === wanted) return null;
  if (status === 'unwound' && kind === 'park' && wanted === 'unpark') return null;
  if (status === 'stuck') return new SeamlessError('VM_STUCK', error?.message ?? 'The operation is stuck');
  return error ? SeamlessError.fromBody(error) : new SeamlessError('ABORTED', `The ${kind} has ${status}`);
}

/** Beside the VM, since its memory is a share of it; a host that can't be asked now spoils nothing. */
function hostMemory(client: ApiClient, host: string): Promise<HostMemory | null> {
  return client.get<HostMemory>(`/v1/hosts/${encodeURIComponent(host)}/memory`).catch(() => null);
}
