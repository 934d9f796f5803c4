/**
 * The configuration of the orchestrator: one schema says type, default and meaning. Parsed once, frozen; an unknown
 * key is refused, and all problems are reported together.
 */
import { readFileSync } from 'node:fs';
import Type from 'typebox';
import Value from 'typebox/value';
import { parse as parseYaml } from 'yaml';
import { SeamlessError } from '../common/errors.ts';
import { parsePrefix, prefixToText } from '../ovs/openflow/prefix.ts';
import type { ConnectionPolicy } from '../sink-agent/api.ts';
import { concernsKind, Transport, transportProblems } from './host/transport-config.ts';
import { OpenStack, VmOpenStack } from './openstack/openstack-config.ts';
import { readRegistry } from './registry/registry.ts';
import { Webhooks } from './webhooks/webhook-config.ts';

const strict = { additionalProperties: false } as const;
const name = (description: string) =>
  Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$', description });
const text = (description: string) => Type.String({ minLength: 1, description });
const agent = Type.Object(
  {
    address: text('Address on the management network.'),
    port: Type.Integer({ minimum: 1, maximum: 65535 }),
    serverName: text('Its name in its certificate; the role (`vm-agent:`, `sink-agent:`) may be left out.'),
  },
  strict,
);

const words = (description: string) => Type.Record(Type.String(), Type.String(), { description });

const Host = Type.Object(
  {
    name: name('Of a hypervisor or sink server.'),
    transport: Transport,
    openflowSocket: text('Management socket of the integration bridge (BRIDGE.mgmt).'),
    ovsdbSocket: text('Socket of ovsdb-server.'),
    switchControl: text(
      'Control socket of ovs-vswitchd, by which changed flows take effect at once; `PID` in it is read from ovs-vswitchd.pid beside it.',
    ),
    bridge: text('Name of the integration bridge.'),
    runDir: Type.Optional(
      text(
        'Folder there for sockets, logs and records of helpers; below stateDir unless told, /run/seamless on a host by ssh.',
      ),
    ),
  },
  strict,
);

const Sink = Type.Object(
  {
    name: name('Of the sink server.'),
    host: text('Its host, one of `hosts`.'),
    agent,
    tunnelPort: text('Port of its bridge that leads to the other hosts.'),
  },
  strict,
);

const Syn = Type.Union([Type.Literal('hold'), Type.Literal('accept')], {
  description:
    'hold: it waits and wakes the VM; accept: the sink takes it, and only what it then needs wakes.',
});

const SuspendToDisk = Type.Object(
  {
    folder: Type.String({
      pattern: '^/.{0,60}$',
      description: 'On its host, for the VM’s memory while it is switched off; with room for all of it.',
    }),
    start: Type.Array(Type.String(), {
      minItems: 1,
      description:
        'The command that becomes the VM’s QEMU, as it was started first. It must exec it, not fork, and pass on the arguments that follow.',
    }),
  },
  strict,
);

const Vm = Type.Object(
  {
    name: name('Of the VM.'),
    host: text('Its hypervisor, one of `hosts`.'),
    mac: Type.String({
      pattern: '^[0-9a-f]{2}(:[0-9a-f]{2}){5}$',
      description: 'On the production network.',
    }),
    addresses: Type.Array(Type.String(), { description: 'With prefix length; for people to read.' }),
    port: text('Its port of the integration bridge.'),
    tunnelPort: text('Port of that bridge that leads to the sink server.'),
    tap: text('Its tap, a port of a Linux bridge of its own.'),
    qmpSocket: text('QMP socket of its QEMU, for the orchestrator alone.'),
    cgroup: text('Folder of the memory cgroup of its QEMU.'),
    suspendToDisk: Type.Optional(SuspendToDisk),
    agent,
    sink: text('Its sink server, one of `sinks`.'),
    template: text('Name of its template; the agents compare the identity.'),
    ports: Type.Optional(
      Type.Record(Type.String(), Type.Object({ syn: Syn }, strict), {
        description: 'By `tcp/PORT`: how a new connection is met while the VM is parked; hold unless told.',
      }),
    ),
    openstack: Type.Optional(VmOpenStack),
    healthChecks: Type.Optional(
      Type.Array(Type.String(), {
        description:
          'Addresses and prefixes whose TCP connects the sink answers without a wake, on every listening port.',
      }),
    ),
    labels: Type.Optional(words('What the policy’s selectors go by.')),
    metadata: Type.Optional(words('OpenStack’s, for the policy’s selectors.')),
  },
  strict,
);

const Listen = Type.Object(
  {
    address: text('Address to listen at.'),
    port: Type.Integer({ minimum: 0, maximum: 65535 }),
    tls: Type.Object(
      {
        cert: text('PEM file: the server’s certificate, and those between it and its CA.'),
        key: text('PEM file.'),
        clientCa: Type.Optional(text('PEM file: the CA of clients that show a certificate (webhooks).')),
      },
      strict,
    ),
  },
  { ...strict, description: 'The API over the network, for holders of a token (docs/api.md).' },
);

const Config = Type.Object(
  {
    stateDir: text('Folder of the journal.'),
    otlp: Type.Optional(
      Type.Object(
        { url: text('Where traces of the operations go by OTLP/HTTP: http://COLLECTOR:4318/v1/traces.') },
        strict,
      ),
    ),
    socket: text('Unix socket of the API.'),
    listen: Type.Optional(Listen),
    tls: Type.Object({ ca: text('PEM file.'), cert: text('PEM file.'), key: text('PEM file.') }, strict),
    switchOff: Type.Optional(
      Type.Union([Type.Literal('swap'), Type.Literal('ram'), Type.Literal('disk'), Type.Literal('nova')], {
        description:
          'How a parked VM is switched off (docs/switch-off.md; nova: docs/openstack.md); swap unless told.',
      }),
    ),
    suspendToSwap: Type.Optional(
      Type.Object(
        {
          dummyRestore: Type.Optional(
            Type.Boolean({ description: 'Bring back what a wake needs; true unless told.' }),
          ),
          prefetch: Type.Optional(
            Type.Boolean({ description: 'Read the working set ahead at a wake; true unless told.' }),
          ),
        },
        { ...strict, description: 'What suspend-to-swap leaves out, to measure what it is worth.' },
      ),
    ),
    persistMs: Type.Optional(
      Type.Integer({
        minimum: 0,
        description:
          'How long a step that must not fail (past the pivot, or taking back) is tried again before the VM is stuck; 60 000 unless told.',
      }),
    ),
    profiles: Type.Optional(
      text('Folder of the templates’ profiles (TEMPLATE.yaml); the repository’s profiles/ unless told.'),
    ),
    policy: Type.Optional(
      text(
        'YAML file that says which VMs are parked, and when (docs/policy.md); without it none is parked by itself.',
      ),
    ),
    sampleMs: Type.Optional(
      Type.Integer({
        minimum: 500,
        maximum: 30_000,
        description: 'How often each VM that is awake is asked whether it is used; 10 000 unless told.',
      }),
    ),
    wakeWatchMs: Type.Optional(
      Type.Integer({
        minimum: 1000,
        description:
          'How long a VM is watched after a wake, before that is judged (docs/wakes.md); 60 000 unless told.',
      }),
    ),
    journalDays: Type.Optional(
      Type.Integer({ minimum: 1, description: 'How long the journal keeps what is over; 30 unless told.' }),
    ),
    packetBuffer: Type.Optional(text('Path of the packet-buffer program; the built one unless told.')),
    logLevel: Type.Optional(
      Type.Union(['debug', 'info', 'warn', 'error'].map((level) => Type.Literal(level as 'info'))),
    ),
    openstack: Type.Optional(OpenStack),
    webhooks: Type.Optional(Webhooks),
    hosts: Type.Array(Host, { description: 'Beside those added by `seamless host add`.' }),
    sinks: Type.Array(Sink, { description: 'Beside those added by `seamless sink add`.' }),
    vms: Type.Array(Vm),
  },
  strict,
);

export { Config as ConfigSchema };
export type HostConfig = Type.Static<typeof Host>;
export type SinkConfig = Type.Static<typeof Sink>;
export type VmConfig = Type.Static<typeof Vm>;
export type ListenConfig = Type.Static<typeof Listen>;
export type Config = Type.Static<typeof Config>;

/** How a VM's new connections are met while it is parked. */
export function connectionPolicy({
  ports = {},
  healthChecks = [],
}: Pick<VmConfig, 'ports' | 'healthChecks'>): ConnectionPolicy {
  const accepted = Object.entries(ports).filter(([, { syn }]) => syn === 'accept');
  return {
    acceptPorts: accepted.map(([key]) => Number(key.slice('tcp/'.length))),
    healthChecks: healthChecks.map((text) => prefixToText(parsePrefix(text))),
  };
}

/**
 * Reads and checks the file (YAML, hence JSON too) and what was added by command to what it says; throws `CONFIG_INVALID` with
 * every problem in `details.problems`.
 */
export function loadConfig(path: string): Config {
  let value: unknown;
  try {
    value = parseText(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new SeamlessError(
      'CONFIG_INVALID',
      `Expected YAML or JSON in ${path}, got ${(cause as Error).message}`,
      {
        cause,
      },
    );
  }
  return parseConfig(withRegistry(value), path);
}

/** JSON is YAML, but a file with thousands of VMs is read a hundred times sooner as what it is. */
function parseText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return parseYaml(text);
  }
}

function withRegistry(value: unknown): unknown {
  const { stateDir, hosts, sinks } = (value ?? {}) as Partial<Config>;
  if (typeof stateDir !== 'string' || !Array.isArray(hosts) || !Array.isArray(sinks)) return value;
  const added = readRegistry(stateDir);
  return { ...(value as object), hosts: [...hosts, ...added.hosts], sinks: [...sinks, ...added.sinks] };
}

export function parseConfig(value: unknown, path = 'the configuration'): Config {
  const problems = schemaProblems(value);
  if (problems.length === 0) problems.push(...referenceProblems(value as Config));
  if (problems.length > 0) {
    throw new SeamlessError('CONFIG_INVALID', `${path}: ${problems.join('; ')}`, { details: { problems } });
  }
  return freeze(value as Config);
}

function schemaProblems(value: unknown): string[] {
  return Value.Errors(Config, value).flatMap(({ keyword, instancePath, schemaPath, message, params }) => {
    const [, host, within] = /^\/hosts\/(\d+)\/transport(.*)$/.exec(instancePath) ?? [];
    if (host && !concernsKind(schemaPath, (value as Config).hosts[Number(host)]?.transport)) return [];
    if (keyword === 'anyOf' && within === '') return [`${instancePath}/type: expected local or ssh`];
    // Reported once per unknown key as `boolean`, with the key in the path.
    if (keyword === 'additionalProperties') return [];
    if (keyword === 'boolean') return [`${instancePath}: unknown key`];
    const { requiredProperties } = params as { requiredProperties?: string[] };
    if (requiredProperties) return requiredProperties.map((key) => `${instancePath}/${key}: missing`);
    return [`${instancePath || '/'}: ${message}`];
  });
}

function referenceProblems({ hosts, sinks, vms, switchOff, ...config }: Config): string[] {
  const unknown = (list: readonly { name: string }[], wanted: string, at: string) =>
    list.some((entry) => entry.name === wanted) ? [] : [`${at}: “${wanted}” is not defined`];
  return [
    ...twice(hosts, '/hosts'),
    ...twice(sinks, '/sinks'),
    ...twice(vms, '/vms'),
    ...hosts.flatMap(({ transport }, index) => transportProblems(transport, `/hosts/${index}/transport`)),
    ...sinks.flatMap((sink, index) => unknown(hosts, sink.host, `/sinks/${index}/host`)),
    ...vms.flatMap((vm, index) => unknown(hosts, vm.host, `/vms/${index}/host`)),
    ...vms.flatMap((vm, index) => unknown(sinks, vm.sink, `/vms/${index}/sink`)),
    ...vms.flatMap((vm, index) => connectionProblems(vm, `/vms/${index}`)),
    ...vms.flatMap(({ suspendToDisk }, index) =>
      switchOff === 'disk' && !suspendToDisk
        ? [`/vms/${index}: switchOff is disk, and suspendToDisk is missing`]
        : [],
    ),
    ...cloudProblems({ vms, ...config, ...(switchOff ? { switchOff } : {}) }),
  ];
}

function cloudProblems({
  switchOff,
  openstack,
  vms,
}: Pick<Config, 'switchOff' | 'openstack' | 'vms'>): string[] {
  const byServer = vms.flatMap(({ openstack: { serverId } = {} }) => (serverId ? [{ name: serverId }] : []));
  const problems = twice(byServer, '/vms: openstack.serverId');
  if (switchOff !== 'nova') return problems;
  if (!openstack) problems.push('/openstack: missing, and `switchOff: nova` needs it');
  const without = vms.filter((vm) => !vm.openstack).map(({ name }) => name);
  if (without.length > 0)
    problems.push(`/vms: no openstack.serverId of ${without.join(', ')}, and \`switchOff: nova\` needs it`);
  return problems;
}

function twice(list: readonly { name: string }[], at: string): string[] {
  const seen = new Set<string>();
  return list
    .filter(({ name }) => seen.size === seen.add(name).size)
    .map((entry) => `${at}: “${entry.name}” is there twice`);
}

/** What the sink's gate and the packet buffer have room for. */
export const MOST_CONNECTION_RULES = 64;

function connectionProblems({ ports = {}, healthChecks = [] }: VmConfig, at: string): string[] {
  const isPort = (key: string) => /^tcp\/[1-9]\d{0,4}$/.test(key) && Number(key.slice(4)) <= 65_535;
  const odd = Object.keys(ports).filter((key) => !isPort(key));
  const problems = odd.map((key) => `${at}/ports: expected a key like “tcp/443”, got “${key}”`);
  const accepted = Object.values(ports).filter(({ syn }) => syn === 'accept').length;
  for (const [what, count] of [
    ['ports that accept', accepted],
    ['healthChecks', healthChecks.length],
  ] as const) {
    if (count > MOST_CONNECTION_RULES)
      problems.push(`${at}: expected at most ${MOST_CONNECTION_RULES} ${what}, got ${count}`);
  }
  for (const [index, source] of healthChecks.entries()) {
    try {
      const { bits } = parsePrefix(source);
      if (bits === 0) problems.push(`${at}/healthChecks/${index}: expected some sources, got all of them`);
    } catch (error) {
      problems.push(`${at}/healthChecks/${index}: ${(error as Error).message}`);
    }
  }
  return problems;
}

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const inner of Object.values(value)) freeze(inner);
    Object.freeze(value);
  }
  return value;
}
