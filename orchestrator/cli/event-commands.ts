/** `seamless events` and `seamless watch` */
import type { Command } from 'commander';
import { eventLine } from './render.ts';
import { addCommand, print, run } from './session.ts';
import { watch } from './watch.ts';

export function addEventCommands(cli: Command): void {
  addCommand(cli, 'events', 'show what has happened')
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

  addCommand(cli, 'watch', 'show the VMs and what happens to them, live').action((_options, self: Command) =>
    run(self, (client, { json = false }) => watch(client, { json, out: process.stdout, env: process.env })),
  );
}
