/** `seamless sink install`, `seamless vm install`: run on the orchestrator's machine, whose authority signs. */
import type { Command } from 'commander';
import { asSeamlessError } from '../../common/errors.ts';
import { fail, print } from '../cli/session.ts';
import { placeOf } from '../cli/sink-commands.ts';
import type { AgentRole } from './bundle.ts';

export interface InstallFlags {
  agent: string;
  hostKey?: string;
  key?: string;
  templates?: string;
  config: string;
  caKey?: string;
  json?: boolean;
}

export function addInstallCommands(cli: Command): void {
  const vm = cli.command('vm').description('agents in VMs').copyInheritedSettings(cli);
  const sink = cli.commands.find((command) => command.name() === 'sink') as Command;
  add(sink, 'sink-agent', 'install or upgrade the agent of a sink server').option(
    '--templates <folder>',
    'its templates there',
    '/var/lib/seamless/templates',
  );
  add(vm, 'vm-agent', 'install or upgrade the agent of a VM');
}

function add(parent: Command, role: AgentRole, description: string): Command {
  return parent
    .command('install')
    .description(description)
    .argument('<name>')
    .argument('<url>', 'ssh://[USER@]HOST[:PORT]')
    .requiredOption('--agent <address[:port]>', 'where it is to listen, on the management network')
    .option('--host-key <key>', 'public host key, or SHA256:…; else it is shown and asked about')
    .option('--key <file>', 'private key of the account; the orchestrator’s own unless told')
    .option('--config <file>', 'the orchestrator’s configuration', '/etc/seamless/seamless.yaml')
    .option('--ca-key <file>', 'key of the authority; ca.key beside its certificate unless told')
    .option('--json', 'print JSON')
    .copyInheritedSettings(parent)
    .action(async (name: string, url: string, flags: InstallFlags) => {
      try {
        const say = (line: string) => void process.stderr.write(`${line}\n`);
        // Loaded here: every other command starts faster without it.
        const { install } = await import('./install.ts');
        const done = await install(role, name, url, { ...flags, ...placeOf(flags.agent) }, say);
        const from = done.former === null || done.former === done.version ? '' : `, before ${done.former}`;
        print(flags.json ? JSON.stringify({ name, ...done }) : `${name}: ${role} ${done.version}${from}`);
      } catch (thrown) {
        fail(asSeamlessError(thrown), flags);
      }
    });
}
