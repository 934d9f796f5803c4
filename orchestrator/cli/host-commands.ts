/** `seamless host add`, `list`, `check`, `remove` */
import type { Command } from 'commander';
import { SeamlessError } from '../../common/errors.ts';
import type { ShownHostKey } from '../host/ssh/scan-host-key.ts';
import type { ApiClient } from './client.ts';
import { confirmHostKey } from './confirm-host-key.ts';
import { check } from './doctor-command.ts';
import { table } from './render.ts';
import { addCommand, type Options, print, run } from './session.ts';

interface HostView {
  name: string;
  transport: string;
  bridge: string;
  reachable: boolean;
  vms: Record<string, number>;
  sinks: string[];
}

interface AddFlags extends Options {
  hostKey?: string;
  key?: string;
  bridge?: string;
  openflow?: string;
  ovsdb?: string;
  switchControl?: string;
}

export function addHostCommands(cli: Command): void {
  const host = cli
    .command('host')
    .description('hypervisors, and hosts of sink servers')
    .copyInheritedSettings(cli);

  addCommand(host, 'add', 'add a host by ssh, its key pinned')
    .argument('<name>')
    .argument('<url>', 'ssh://[USER@]HOST[:PORT]')
    .option('--host-key <key>', 'its public host key, or SHA256:…; else it is shown and asked about')
    .option('--key <file>', 'private key of the account; the orchestrator’s own unless told')
    .option('--bridge <name>', 'integration bridge (br-int)')
    .option('--openflow <path>', 'its management socket on the host')
    .option('--ovsdb <path>', 'socket of ovsdb-server on the host')
    .option('--switch-control <path>', 'control socket of ovs-vswitchd on the host')
    .action((name: string, url: string, _options, self: Command) =>
      run(self, async (client, options) => {
        await addHost(client, name, url, options);
        print(options.json ? JSON.stringify({ name }) : `${name} was added, and is reached`);
      }),
    );

  addCommand(host, 'list', 'list the hosts').action((_options, self: Command) =>
    run(self, async (client, { json }) => {
      const reply = await client.get<{ hosts: HostView[] }>('/v1/hosts');
      print(json ? JSON.stringify(reply) : hostTable(reply.hosts));
    }),
  );

  addCommand(host, 'check', 'look at every prerequisite on one host')
    .argument('<name>')
    .option('--all', 'what is in order, too')
    .action((name: string, _options, self: Command) =>
      run(self, (client, options) => check(client, `/v1/hosts/${encodeURIComponent(name)}/check`, options)),
    );

  addCommand(host, 'remove', 'remove a host that was added')
    .argument('<name>')
    .action((name: string, _options, self: Command) =>
      run(self, async (client, { json }) => {
        const removed = await client.delete(`/v1/hosts/${encodeURIComponent(name)}`);
        print(json ? JSON.stringify(removed) : `${name} was removed`);
      }),
    );
}

/** Without a key that was told, the one that answers is shown, and added only when somebody says yes. */
async function addHost(client: ApiClient, name: string, url: string, flags: AddFlags): Promise<void> {
  const { hostKey, key, bridge, openflow, ovsdb, switchControl } = flags;
  const body = {
    ...{ name, url },
    ...(key ? { keyFile: key } : {}),
    ...(bridge ? { bridge } : {}),
    ...(openflow ? { openflowSocket: openflow } : {}),
    ...(ovsdb ? { ovsdbSocket: ovsdb } : {}),
    ...(switchControl ? { switchControl } : {}),
  };
  try {
    await client.post('/v1/hosts', { ...body, ...(hostKey ? { hostKey } : {}) });
  } catch (thrown) {
    const unconfirmed = thrown instanceof SeamlessError && thrown.code === 'HOST_KEY_UNCONFIRMED';
    if (!unconfirmed || flags.json) throw thrown;
    const shown = thrown.details as unknown as ShownHostKey;
    if (!(await confirmHostKey(url, shown))) throw thrown;
    await client.post('/v1/hosts', { ...body, hostKey: shown.hostKey });
  }
}

function hostTable(hosts: readonly HostView[]): string {
  const counts = ({ vms }: HostView) => Object.entries(vms).map(([state, count]) => `${count} ${state}`);
  const rows = hosts.map((host) => [
    ...[host.name, host.transport, host.reachable ? 'reachable' : 'not reachable', host.bridge],
    ...[counts(host).join(', ') || '-', host.sinks.join(' ') || '-'],
  ]);
  return table([['HOST', 'BY', 'STATE', 'BRIDGE', 'VMS', 'SINK SERVERS'], ...rows]);
}
