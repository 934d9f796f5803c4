/** `seamless profile learn` */
import type { Command } from 'commander';
import type { ObservationReply } from '../api/observations.ts';
import { addCommand, print, run, vmPath } from './session.ts';

export function addProfileCommands(cli: Command): void {
  const profile = cli
    .command('profile')
    .description('what a template’s programs may look at in a sink')
    .copyInheritedSettings(cli);
  addCommand(
    profile,
    'learn',
    'watch a VM’s idle gateway processes, which run on, and propose what its template’s profile could allow',
  )
    .argument('<vm>')
    .option('--seconds <n>', 'how long', '60')
    .action((vm: string, _options, self: Command) =>
      run(self, async (client, { json, seconds }) => {
        const body = { seconds: Number(seconds) };
        const reply = await client.post<ObservationReply>(`${vmPath(vm)}/observe`, body);
        print(json ? JSON.stringify(reply) : reply.proposal.trimEnd());
      }),
    );
}
