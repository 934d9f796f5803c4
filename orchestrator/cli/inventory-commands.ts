/** `seamless template list`, `operations` */
import type { Command } from 'commander';
import type { Operation } from '../vm/operation.ts';
import { operationLine, table } from './render.ts';
import { addCommand, print, run } from './session.ts';

export function addInventoryCommands(cli: Command): void {
  const template = cli
    .command('template')
    .description('what VMs and sinks are made from')
    .copyInheritedSettings(cli);
  addCommand(template, 'list', 'list the templates of the registered VMs').action((_options, self: Command) =>
    run(self, async (client, { json }) => {
      const { templates } = await client.get<{ templates: { name: string; vms: number }[] }>('/v1/templates');
      const rows = templates.map(({ name, vms }) => [name, String(vms)]);
      print(json ? JSON.stringify({ templates }) : table([['TEMPLATE', 'VMS'], ...rows]));
    }),
  );

  addCommand(cli, 'operations', 'list the last parks and unparks, newest first')
    .argument('[vm]')
    .action((vm: string | undefined, _options, self: Command) =>
      run(self, async (client, { json }) => {
        const query = vm === undefined ? '' : `&vm=${encodeURIComponent(vm)}`;
        const { operations } = await client.get<{ operations: Operation[] }>(
          `/v1/operations?limit=20${query}`,
        );
        if (json) return print(JSON.stringify({ operations }));
        for (const operation of operations) {
          print(`${operation.startedAt}  ${operation.vm}  ${operationLine(operation)}  (${operation.id})`);
        }
      }),
    );
}
