/**
 * A configuration to begin with, written from the schema itself: what must be said has a value, what may be said stands there as a
 * comment, and each key has its meaning above it. So it can't fall behind the schema.
 */
import type { TSchema } from 'typebox';
import { stringify } from 'yaml';
import { ConfigSchema } from '../config.ts';

interface Described {
  type?: string;
  description?: string;
  properties?: Record<string, Described>;
  required?: string[];
  items?: Described;
  anyOf?: Described[];
  const?: unknown;
}

const PKI = '/etc/seamless/pki';
/** Values of a fresh installation on Debian, by the key's path. */
const EXAMPLES: Record<string, unknown> = {
  stateDir: '/var/lib/seamless',
  socket: '/run/seamless/seamless.sock',
  'tls.ca': `${PKI}/ca.crt`,
  'tls.cert': `${PKI}/orchestrator.crt`,
  'tls.key': `${PKI}/orchestrator.key`,
  'listen.address': '192.0.2.1',
  'listen.port': 8443,
  'listen.tls.cert': `${PKI}/api.crt`,
  'listen.tls.key': `${PKI}/api.key`,
  switchOff: 'swap',
  persistMs: 60000,
  wakeWatchMs: 60000,
  journalDays: 30,
  logLevel: 'info',
  hosts: [],
  sinks: [],
  vms: [],
  'hosts.name': 'hv1',
  'hosts.transport': {
    ...{ type: 'ssh', address: 'hv1.example', keyFile: '/var/lib/seamless/ssh/id_ed25519' },
    hostKey: 'ssh-ed25519 AAAA…',
  },
  'hosts.openflowSocket': '/run/openvswitch/br-int.mgmt',
  'hosts.ovsdbSocket': '/run/openvswitch/db.sock',
  'hosts.switchControl': '/run/openvswitch/ovs-vswitchd.PID.ctl',
  'hosts.bridge': 'br-int',
  'sinks.name': 'sink1',
  'sinks.host': 'sink1-host',
  'sinks.agent': { address: '10.0.0.2', port: 7443, serverName: 'sink1' },
  'sinks.tunnelPort': 'vxlan0',
  'vms.name': 'vm1',
  'vms.host': 'hv1',
  'vms.mac': '52:54:00:00:00:01',
  'vms.addresses': ['192.0.2.11/24'],
  'vms.port': 'qvo-vm1',
  'vms.tunnelPort': 'vxlan0',
  'vms.tap': 'tap-vm1',
  'vms.qmpSocket': '/run/qemu/vm1.qmp',
  'vms.cgroup': '/sys/fs/cgroup/machine.slice/vm1.scope',
  'vms.agent': { address: '10.0.0.11', port: 7443, serverName: 'vm1' },
  'vms.sink': 'sink1',
  'vms.template': 'default',
};
const WIDTH = 110;

/** @param pki folder of the certificates, where they are not at the usual place */
export function commentedConfig(pki = PKI): string {
  const head = [
    '# The configuration of SEaMLESS’s orchestrator. YAML; what stands behind a “#” may be said and has a value of its own until then.',
    '# Check it, and all hosts: `seamless doctor`. Hosts and sink servers can be added by command instead: `seamless host add`.',
  ];
  const lines = [...head, '', ...block(ConfigSchema as TSchema as Described, '')];
  return `${lines.join('\n').replaceAll(`${PKI}/`, `${pki}/`)}\n`;
}

/** The keys of an object, each with its meaning. */
function block({ properties = {}, required = [] }: Described, path: string): string[] {
  return Object.entries(properties).flatMap(([key, schema]) => {
    const at = path === '' ? key : `${path}.${key}`;
    const lines = [...comment(schema.description), ...entry(key, schema, at)];
    const wanted = required.includes(key);
    return path === ''
      ? [...(wanted ? lines : lines.map(commentedOut)), '']
      : wanted
        ? lines
        : lines.map(commentedOut);
  });
}

function entry(key: string, schema: Described, at: string): string[] {
  const example = EXAMPLES[at];
  if (schema.type === 'array' && schema.items?.properties && Array.isArray(example)) {
    return [`${key}: []`, ...inList(block(schema.items, at)).map(commentedOut)];
  }
  if (example !== undefined) return yaml({ [key]: example });
  if (schema.properties) return [`${key}:`, ...block(schema, at).map((line) => `  ${line}`)];
  return [`${key}: ${placeholder(schema)}`];
}

function inList(lines: readonly string[]): string[] {
  const first = lines.findIndex((line) => !line.startsWith('#'));
  return lines.map((line, index) => `${index === first ? '  - ' : '    '}${line}`);
}

function placeholder({ type, anyOf, const: only }: Described): string {
  if (only !== undefined) return String(only);
  const choices = anyOf?.map((choice) => choice.const).filter((value) => value !== undefined);
  if (choices && choices.length > 0) return String(choices[0]);
  return { integer: '0', number: '0', boolean: 'false', array: '[]', object: '{}' }[type ?? ''] ?? '…';
}

function comment(description: string | undefined): string[] {
  if (!description) return [];
  const lines: string[] = [''];
  for (const word of description.split(' ')) {
    if (`${lines.at(-1)} ${word}`.length > WIDTH) lines.push('');
    lines[lines.length - 1] = `${lines.at(-1)} ${word}`;
  }
  return lines.map((line) => `#${line}`);
}

function commentedOut(line: string): string {
  return line.startsWith('#') ? line : `#${line}`;
}

function yaml(value: object): string[] {
  return stringify(value, { lineWidth: 0 }).trimEnd().split('\n');
}
