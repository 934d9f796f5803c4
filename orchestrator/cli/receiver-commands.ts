/** `seamless receiver list`, `dead`, `resend` */
import type { Command } from 'commander';
import { SeamlessError } from '../../common/errors.ts';
import type { ReceiverStatus } from '../webhooks/receiver.ts';
import type { ApiClient } from './client.ts';
import { table } from './render.ts';
import { addCommand, print, run } from './session.ts';

export function addReceiverCommands(cli: Command): void {
  const receiver = cli
    .command('receiver')
    .description('who is told by webhook what happens')
    .copyInheritedSettings(cli);

  addCommand(receiver, 'list', 'list them, and how far each is').action((_options, self: Command) =>
    run(self, async (client, { json }) => {
      const receivers = await receiversOf(client);
      print(json ? JSON.stringify({ receivers }) : receiverTable(receivers));
    }),
  );

  addCommand(receiver, 'dead', 'list what one would not take, and why')
    .argument('<name>')
    .action((name: string, _options, self: Command) =>
      run(self, async (client, { json }) => {
        const receivers = await receiversOf(client);
        const found = receivers.find((each) => each.name === name);
        if (!found) {
          const known = receivers.map((each) => each.name).join(', ') || 'none';
          throw new SeamlessError('RECEIVER_UNKNOWN', `Expected one of ${known}, got “${name}”`);
        }
        print(json ? JSON.stringify({ dead: found.dead }) : deadTable(found));
      }),
    );

  addCommand(receiver, 'resend', 'send it what it would not take once more, all or one by its id')
    .argument('<name>')
    .argument('[id]')
    .action((name: string, id: string | undefined, _options, self: Command) =>
      run(self, async (client, { json }) => {
        const path = `/v1/webhooks/receivers/${encodeURIComponent(name)}/resend`;
        const reply = await client.post<{ resent: number }>(path, id === undefined ? {} : { id });
        print(json ? JSON.stringify(reply) : `${reply.resent} sent once more to ${name}`);
      }),
    );
}

async function receiversOf(client: ApiClient): Promise<ReceiverStatus[]> {
  return (await client.get<{ receivers: ReceiverStatus[] }>('/v1/webhooks/receivers')).receivers;
}

function receiverTable(receivers: readonly ReceiverStatus[]): string {
  if (receivers.length === 0) return 'The configuration names no receiver (`webhooks.receivers`).';
  const rows = receivers.map(({ name, url, failing, dead, place }) => [
    ...[name, url, failing ?? 'in order', String(place), String(dead.length)],
  ]);
  return table([['RECEIVER', 'URL', 'STATE', 'TOLD UP TO', 'DEAD'], ...rows]);
}

function deadTable({ name, dead }: ReceiverStatus): string {
  if (dead.length === 0) return `${name} has taken everything.`;
  const rows = dead.map(({ id, event, reason, at }) => [id, event.type, event.data.vm, at, reason]);
  return table([['ID', 'EVENT', 'VM', 'GIVEN UP', 'WHY'], ...rows]);
}
