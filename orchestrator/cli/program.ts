/** The tree of commands. Exit codes are those of common/errors.ts; docs/cli.md has a line for each of both. */
import { Command } from 'commander';
import { ERRORS } from '../../common/errors.ts';
import { addIdleCommands } from '../idle/cli.ts';
import { addInitCommand } from '../init/cli.ts';
import { packageVersion } from '../install/bundle.ts';
import { addInstallCommands } from '../install/cli.ts';
import { addCompletion } from './completion/command.ts';
import { addDoctorCommand } from './doctor-command.ts';
import { addEventCommands } from './event-commands.ts';
import { addHostCommands } from './host-commands.ts';
import { addInventoryCommands } from './inventory-commands.ts';
import { addProfileCommands } from './profile-commands.ts';
import { addReceiverCommands } from './receiver-commands.ts';
import { fail } from './session.ts';
import { addSinkCommands } from './sink-commands.ts';
import { addTokenCommands } from './token-commands.ts';
import { addVmCommands } from './vm-commands.ts';

export function program(): Command {
  const cli = new Command('seamless')
    .description('Parks idle virtual machines, and wakes them when they are needed.')
    .option('--socket <path>', 'the orchestrator’s socket (or $SEAMLESS_SOCKET)')
    .option('--server <url>', 'an orchestrator elsewhere: https://HOST:PORT (or $SEAMLESS_SERVER)')
    .option('--token-file <path>', 'file with the token for it (or $SEAMLESS_TOKEN_FILE)')
    .option('--ca-file <path>', 'file with the CA of its certificate (or $SEAMLESS_CA_FILE)')
    .version(packageVersion(), '--version', 'print the version')
    .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : ERRORS.REQUEST_INVALID.exit));
  addVmCommands(cli);
  addEventCommands(cli);
  addHostCommands(cli);
  addSinkCommands(cli);
  addInstallCommands(cli);
  addInventoryCommands(cli);
  addDoctorCommand(cli);
  addTokenCommands(cli);
  addReceiverCommands(cli);
  addProfileCommands(cli);
  addIdleCommands(cli, fail);
  addInitCommand(cli, fail);
  addCompletion(cli);
  return cli;
}
