/** `seamless sink add`, `list`, `remove` */
import type { Command } from 'commander';
import { SeamlessError } from '../../common/errors.ts';
import type { SinkView } from '../api/inventory.ts';
import { table } from './render.ts';
import { addCommand, type Options, print, run } from './session.ts';

interface AddFlags extends Options {
  host?: string;
  agent?: string;
  serverName?: string;
  tunnelPort?: string;
}

const AGENT_PORT = 7443;

export function addSinkCommands(cli: Command): void {
  const sink = cli.command('sink').description('sink servers').copyInheritedSettings(cli);

  addCommand(sink, 'add', 'add a sink server, whose agent runs')
    .argument('<name>')
    .requiredOption('--host <name>', 'its host')
    .requiredOption('--agent <address[:port]>', `of its agent on the management network (port ${AGENT_PORT})`)
    .requiredOption('--tunnel-port <name>', 'port of its bridge that leads to the other hosts')
    .option('--server-name <name>', 'in its agent’s certificate; its name unless told')
    .action((name: string, _options, self: Command) =>
      run(self, async (client, options) => {
        const { host, tunnelPort, serverName, agent = '' } = options as AddFlags;
        const server = serverName ? { serverName } : {};
        await client.post('/v1/sinks', { name, host, tunnelPort, ...placeOf(agent), ...server });
        print(options.json ? JSON.stringify({ name }) : `${name} was added, and its agent answers`);
      }),
    );

  addCommand(sink, 'list', 'list the sink servers').action((_options, self: Command) =>
    run(self, async (client, { json }) => {
      const reply = await client.get<{ sinks: SinkView[] }>('/v1/sinks');
      print(json ? JSON.stringify(reply) : sinkTable(reply.sinks));
    }),
  );

  addCommand(sink, 'remove', 'remove a sink server that was added')
    .argument('<name>')
    .action((name: string, _options, self: Command) =>
      run(self, async (client, { json }) => {
        const removed = await client.delete(`/v1/sinks/${encodeURIComponent(name)}`);
        print(json ? JSON.stringify(removed) : `${name} was removed`);
      }),
    );
}

function sinkTable(sinks: readonly SinkView[]): string {
  const rows = sinks.map((sink) => [
    ...[sink.name, sink.host, sink.agent, sink.reachable ? 'reachable' : 'not reachable'],
    sink.memoryAvailableBytes === null ? '-' : `${Math.round(sink.memoryAvailableBytes / 2 ** 20)} MiB`,
    `${sink.sinks}`,
  ]);
  return table([['SINK SERVER', 'HOST', 'AGENT', 'STATE', 'FREE', 'SINKS'], ...rows]);
}

/** `10.78.0.2:7443`, `[fd00::2]:7443`, or without the port. */
export function placeOf(agent: string): { address: string; port: number } {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:\s]+))(?::(\d+))?$/.exec(agent) ?? [];
  const address = bracketed ?? plain;
  if (address) return { address, port: port ? Number(port) : AGENT_PORT };
  throw new SeamlessError(
    'REQUEST_INVALID',
    `Expected --agent ADDRESS[:PORT], an IPv6 address in brackets, got “${agent}”`,
  );
}
