/**
 * The hosts and sink servers, and the connections to them that all VMs share. Those added by command are there at once; VMs come with
 * the next start, because the configuration names them.
 */

import { SeamlessError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type {
  SinkAgentApi,
  SinkAgentEvent,
  SinkServerDescription,
  SinkStatus,
} from '../../sink-agent/api.ts';
import { createRpcClient, type RpcClient } from '../../wire/rpc-client.ts';
import type { TlsMaterial } from '../../wire/tls.ts';
import { peerName } from '../agents/peer-name.ts';
import { followSinks } from '../agents/sink-events.ts';
import { type Config, type HostConfig, parseConfig, type SinkConfig } from '../config.ts';
import { type HostLink, hostLink } from '../network/host-link.ts';
import { type Registry, readRegistry, writeRegistry } from './registry.ts';

export interface FleetOptions {
  config: Config;
  tls: TlsMaterial;
  log: Log;
}

const DESCRIBE_MS = 10_000;

export class Fleet {
  readonly hosts: HostConfig[];
  readonly sinks: SinkConfig[];
  readonly links = new Map<string, HostLink>();
  readonly agents = new Map<string, RpcClient<SinkAgentApi, SinkAgentEvent>>();
  readonly #options: FleetOptions;
  readonly #ended = new Map<string, AbortController>();
  #onSink: ((sink: SinkStatus) => void) | null = null;

  constructor(options: FleetOptions) {
    this.#options = options;
    this.hosts = [...options.config.hosts];
    this.sinks = [...options.config.sinks];
    for (const host of this.hosts) this.links.set(host.name, hostLink(host, options.log));
    for (const sink of this.sinks) this.#openAgent(sink);
  }

  /** Hears from now on what the sink agents say of their sinks. */
  follow(onSink: (sink: SinkStatus) => void): void {
    this.#onSink = onSink;
    for (const { name } of this.sinks) this.#followAgent(name);
  }

  /**
   * Keeps a host that answers: its key is the pinned one, the account is let in, its switch is there.
   * @throws `CONFIG_INVALID` for a name that is taken and the like, `HOST_UNREACHABLE` with the reason
   */
  async addHost(entry: HostConfig): Promise<void> {
    const check = () => this.#checked({ hosts: [...this.hosts, entry], sinks: this.sinks });
    check();
    const link = hostLink(entry, this.#options.log);
    try {
      await link.transport.run(['true'], { timeoutMs: 20_000 });
      await link.openflow.connection();
      await link.ovsdb();
      check(); // another one of that name may have come meanwhile
      this.#change(({ hosts }) => hosts.push(entry));
    } catch (thrown) {
      await link.close();
      throw thrown;
    }
    this.hosts.push(entry);
    this.links.set(entry.name, link);
  }

  async removeHost(name: string): Promise<void> {
    const user =
      this.sinks.find(({ host }) => host === name)?.name ??
      this.#options.config.vms.find(({ host }) => host === name)?.name;
    this.#expectKnown('HOST_UNKNOWN', this.hosts, name, user);
    this.#forget('hosts', name);
    this.hosts.splice(0, this.hosts.length, ...this.hosts.filter((host) => host.name !== name));
    const link = this.links.get(name);
    this.links.delete(name);
    await link?.close();
  }

  /** Keeps a sink server whose agent answers. */
  async addSink(entry: SinkConfig): Promise<void> {
    const check = () => this.#checked({ hosts: this.hosts, sinks: [...this.sinks, entry] });
    check();
    const agent = this.#newAgent(entry);
    try {
      await agent.call('describe', {}, { timeoutMs: DESCRIBE_MS });
      check();
      this.#change(({ sinks }) => sinks.push(entry));
    } finally {
      agent.close();
    }
    this.sinks.push(entry);
    this.#openAgent(entry);
    this.#followAgent(entry.name);
  }

  removeSink(name: string): void {
    const user = this.#options.config.vms.find(({ sink }) => sink === name)?.name;
    this.#expectKnown('SINK_UNKNOWN', this.sinks, name, user);
    this.#forget('sinks', name);
    this.sinks.splice(0, this.sinks.length, ...this.sinks.filter((sink) => sink.name !== name));
    this.#ended.get(name)?.abort();
    this.agents.get(name)?.close();
    this.agents.delete(name);
  }

  /** What the agent of a sink server says of it. */
  async describe(name: string): Promise<SinkServerDescription> {
    const agent = this.agents.get(name);
    if (agent) return agent.call('describe', {}, { timeoutMs: DESCRIBE_MS });
    throw new SeamlessError('SINK_UNKNOWN', `Expected a known sink server, got “${name}”`);
  }

  async close(): Promise<void> {
    for (const ended of this.#ended.values()) ended.abort();
    for (const agent of this.agents.values()) agent.close();
    await Promise.all([...this.links.values()].map((link) => link.close()));
  }

  #checked(lists: Pick<Config, 'hosts' | 'sinks'>): void {
    parseConfig(structuredClone({ ...this.#options.config, ...lists }), 'the hosts and sink servers');
  }

  #change(edit: (registry: Registry<{ name: string }, { name: string }>) => void): void {
    const { stateDir } = this.#options.config;
    const registry = readRegistry(stateDir) as Registry<{ name: string }, { name: string }>;
    edit(registry);
    writeRegistry(stateDir, registry);
  }

  #forget(kind: 'hosts' | 'sinks', name: string): void {
    this.#change((registry) => {
      const others = registry[kind].filter((entry) => entry.name !== name);
      if (others.length < registry[kind].length) {
        registry[kind] = others;
        return;
      }
      throw new SeamlessError(
        'REQUEST_INVALID',
        `${name} is in the configuration file: remove it there, and start anew`,
      );
    });
  }

  #expectKnown(
    code: 'HOST_UNKNOWN' | 'SINK_UNKNOWN',
    list: readonly { name: string }[],
    name: string,
    user: string | undefined,
  ): void {
    if (!list.some((entry) => entry.name === name)) {
      const known = list.map((entry) => entry.name).join(', ') || 'none';
      throw new SeamlessError(code, `Expected one of ${known}, got “${name}”`);
    }
    if (user !== undefined) throw new SeamlessError('HOST_IN_USE', `${name} is needed by ${user}`);
  }

  #openAgent(sink: SinkConfig): void {
    this.agents.set(sink.name, this.#newAgent(sink));
  }

  #newAgent({ agent: { address, port, serverName } }: SinkConfig): RpcClient<SinkAgentApi, SinkAgentEvent> {
    const peer = peerName('sink-agent', serverName);
    return createRpcClient<SinkAgentApi, SinkAgentEvent>({ address, port, peer, tls: this.#options.tls });
  }

  #followAgent(name: string): void {
    const onSink = this.#onSink;
    const agent = this.agents.get(name);
    if (!onSink || !agent) return;
    const ended = new AbortController();
    this.#ended.set(name, ended);
    const log = this.#options.log.with({ sink: name });
    void followSinks(agent, onSink, log, ended.signal);
    agent.call('describe', {}).catch((error) => log.warn('sinkAgent.unreachable', { error }));
  }
}
