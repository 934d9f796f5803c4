/** `seamless token create`, `list`, `revoke` */
import type { Command } from 'commander';
import type { Token } from '../api/tokens/store.ts';
import { table } from './render.ts';
import { addCommand, print, run } from './session.ts';

export function addTokenCommands(cli: Command): void {
  const token = cli
    .command('token')
    .description('tokens for the API over the network')
    .copyInheritedSettings(cli);

  addCommand(token, 'create', 'make a token and print it, this once')
    .argument('<name>')
    .requiredOption('--scope <scope>', 'read, operate or admin')
    .option('--days <n>', 'how long it is good; for ever unless told')
    .action((name: string, _options, self: Command) =>
      run(self, async (client, { json, scope, days }) => {
        const body = { name, scope, ...(days === undefined ? {} : { days: Number(days) }) };
        const created = await client.post<{ token: Token; secret: string }>('/v1/tokens', body);
        print(json ? JSON.stringify(created) : created.secret);
      }),
    );

  addCommand(token, 'list', 'list the tokens, without their secrets').action((_options, self: Command) =>
    run(self, async (client, { json }) => {
      const { tokens } = await client.get<{ tokens: Token[] }>('/v1/tokens');
      if (json) return print(JSON.stringify({ tokens }));
      const rows = tokens.map(({ id, name, scope, createdAt, expiresAt }) => [
        ...[id, name, scope, createdAt],
        expiresAt ?? 'never',
      ]);
      print(
        rows.length === 0
          ? 'There is no token.'
          : table([['ID', 'NAME', 'SCOPE', 'CREATED', 'EXPIRES'], ...rows]),
      );
    }),
  );

  addCommand(token, 'revoke', 'revoke a token, at once')
    .argument('<id-or-name>')
    .action((which: string, _options, self: Command) =>
      run(self, async (client, { json }) => {
        const revoked = await client.delete<Token>(`/v1/tokens/${encodeURIComponent(which)}`);
        print(json ? JSON.stringify(revoked) : `${revoked.name} is revoked`);
      }),
    );
}
