/**
 * `seamless simulate` and `seamless policy check`: they need no orchestrator. What they run is loaded when they are called, since it would
 * cost every other command a quarter of a second.
 */
import type { Command } from 'commander';
import { asSeamlessError, type SeamlessError } from '../../common/errors.ts';

type Fail = (error: SeamlessError, options: { json?: boolean }) => void;

export function addIdleCommands(cli: Command, fail: Fail): void {
  cli
    .command('simulate')
    .description('replay a trace under several policies: memory saved, wakes, delay')
    .option('--trace <file>', 'a CSV of samples (docs/simulation.md)')
    .option('--vms <count>', 'generate so many VMs (1000 unless told)')
    .option('--days <count>', 'for so many days (30 unless told)')
    .option('--seed <number>', 'of the generator (1 unless told)')
    .option('--policy <file>', 'a policy file to compare with the built-in policies')
    .option('--threads <count>', 'as many as there are processors unless told')
    .option('--export <file>', 'write the generated trace as CSV instead of simulating it')
    .option('--table', 'print the table as Markdown')
    .option('--json', 'print JSON')
    .action(guarded(fail, async (self) => (await import('./commands.ts')).runSimulate(self)));

  const policy = cli.command('policy').description('work with policy files');
  policy
    .command('check')
    .description('check a policy file, all of it')
    .argument('<file>')
    .option('--vm <name>', 'and show what holds for the VM of that name')
    .option('--json', 'print JSON')
    .action(guarded(fail, async (self) => (await import('./commands.ts')).runPolicyCheck(self)));
}

function guarded(fail: Fail, action: (self: Command) => Promise<void>) {
  return async (...args: unknown[]) => {
    const self = args.at(-1) as Command;
    try {
      await action(self);
    } catch (thrown) {
      fail(asSeamlessError(thrown), self.optsWithGlobals());
    }
  };
}
