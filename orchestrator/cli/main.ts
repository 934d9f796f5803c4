#!/usr/bin/env node
/** `seamless`: the command line of the orchestrator's API. Exit codes are those of common/errors.ts. */
import { Command } from 'commander';
import { asSeamlessError, ERRORS, SeamlessError } from '../../common/errors.ts';
import type { ObservationReply } from '../api/observations.ts';
import type { OperationReply, VmDetail, VmSummary } from '../api/vms.ts';
import { addIdleCommands } from '../idle/cli.ts';
import { type Explanation, explanationText } from '../idle/explain.ts';
import type { Operation } from '../vm/operation.ts';
import { type ApiClient, apiClient, findSocket } from './client.ts';
import { followOperation, progress } from './follow.ts';
import { eventLine, explained, explanation, operationLine, vmTable, vmText } from './render.ts';

interface Options {
  socket?: string;
  json?: boolean;
  wait?: boolean;
  force?: boolean;
  gateways?: boolean;
  follow?: boolean;
  since?: string;
  seconds?: string;
  steps?: boolean;
}

const cli = new Command('seamless')
  .description('Parks idle virtual machines, and wakes them when they are needed.')
  .option('--socket <path>', 'the orchestrator’s socket (or $SEAMLESS_SOCKET)')
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : ERRORS.REQUEST_INVALID.exit));

command('list', 'list the registered VMs').action((_options, self: Command) =>
  run(self, async (client, { json }) => {
    const vms = await allVms(client);
    print(json ? JSON.stringify({ vms }) : vmTable(vms));
  }),
);

command('show', 'show a VM')
  .argument('<vm>')
  .option('--gateways', 'scan it for its gateway processes')
  .action((vm: string, _options, self: Command) =>
    run(self, async (client, { json, gateways }) => {
      const detail = await client.get<VmDetail>(`${vmPath(vm)}${gateways ? '?gateways=true' : ''}`);
      print(json ? JSON.stringify(detail) : vmText(detail));
    }),
  );

command('explain', 'say why a VM is as it is, and what woke it last')
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

command('park', 'move a VM’s gateway processes to its sink and switch it off')
  .argument('<vm>')
  .option('--no-wait', 'return at once; the operation goes on')
  .action((vm: string, _options, self: Command) =>
    run(self, (client, options) => operate(client, 'park', vm, options)),
  );

command('unpark', 'switch a VM on and move its gateway processes back')
  .argument('<vm>')
  .option('--no-wait', 'return at once; the operation goes on')
  .option('--force', 'try again what is stuck')
  .action((vm: string, _options, self: Command) =>
    run(self, (client, options) => operate(client, 'unpark', vm, options)),
  );

profileCommand()
  .command('learn')
  .description(
    'watch a VM’s idle gateway processes, which run on, and propose what its template’s profile could allow',
  )
  .argument('<vm>')
  .option('--seconds <n>', 'how long', '60')
  .option('--json', 'print JSON')
  .action((vm: string, _options, self: Command) =>
    run(self, async (client, { json, seconds }) => {
      const body = { seconds: Number(seconds) };
      const reply = await client.post<ObservationReply>(`${vmPath(vm)}/observe`, body);
      print(json ? JSON.stringify(reply) : reply.proposal.trimEnd());
    }),
  );

command('events', 'show what has happened')
  .argument('[vm]')
  .option('--since <id>', 'begin after this event')
  .option('--steps', 'each step of each operation, too; with --json they are always there')
  .option('--follow', 'go on with what happens, as it happens')
  .action((vm: string | undefined, _options, self: Command) =>
    run(self, async (client, { json = false, since, steps = json, follow = false }) => {
      const after = since === undefined ? (follow ? null : 0) : Number(since);
      for await (const event of client.events({ vm, after, follow, steps })) {
        const line = json ? JSON.stringify(event) : eventLine(event);
        if (line !== null) print(line);
      }
    }),
  );

addIdleCommands(cli, fail);

await cli.parseAsync();

function profileCommand(): Command {
  return cli
    .command('profile')
    .description('what a template’s programs may look at in a sink')
    .copyInheritedSettings(cli);
}

function command(name: string, description: string): Command {
  return cli.command(name).description(description).option('--json', 'print JSON').copyInheritedSettings(cli);
}

async function run(
  self: Command,
  action: (client: ApiClient, options: Options) => Promise<void>,
): Promise<void> {
  const options = self.optsWithGlobals<Options>();
  try {
    await action(apiClient(findSocket(options.socket, process.env)), options);
  } catch (thrown) {
    fail(asSeamlessError(thrown), options);
  }
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

function fail(error: SeamlessError, { json }: Options, operation?: Operation): void {
  const { next, exit } = ERRORS[error.code];
  process.stderr.write(`${error.code}: ${error.message}\n${next}\n`);
  if (json) print(JSON.stringify({ error: error.toBody(), ...(operation ? { operation } : {}) }));
  process.exitCode = exit;
}

/** Page by page. */
async function allVms(client: ApiClient): Promise<VmSummary[]> {
  const vms: VmSummary[] = [];
  let next: string | null = null;
  do {
    const cursor: string = next === null ? '' : `&cursor=${encodeURIComponent(next)}`;
    const page = await client.get<{ vms: VmSummary[]; next: string | null }>(`/v1/vms?limit=1000${cursor}`);
    vms.push(...page.vms);
    next = page.next;
  } while (next !== null);
  return vms;
}

function vmPath(vm: string): string {
  return `/v1/vms/${encodeURIComponent(vm)}`;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
