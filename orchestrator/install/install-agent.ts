/**
 * Puts an agent on a host, or a newer one over it: look → upload → unpack beside the old one → enrol → configure → switch over → ask it.
 * Each step may be repeated; until the link is switched nothing that runs is touched. What an agent left behind by its end goes on:
 * sinks are frozen, then seized again by the new one (sink-agent/), processes of a VM are not children of its agent.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SeamlessError } from '../../common/errors.ts';
import type { HostTransport } from '../host/transport.ts';
import { type Authority, certify } from '../pki/authority.ts';
import { AGENTS_PREFIX, type AgentRole, type Bundle } from './bundle.ts';

export interface AgentInstallation {
  role: AgentRole;
  /** Of the sink server, or of the VM. */
  name: string;
  /** Where it listens, on the management network. */
  address: string;
  port: number;
  /** Of a sink server: folder there of its templates. */
  templatesDir: string;
  bundle: Bundle;
  authority: Authority;
  /** Asks the agent who it is, as the orchestrator does. */
  ask(): Promise<void>;
}

export interface Installed {
  version: string;
  /** null when nothing was there. */
  former: string | null;
}

const CONFIGURATION = '/etc/seamless';
const UNITS = join(import.meta.dirname, '../../packaging/systemd');
const UNPACK_MS = 120_000;
/** The oldest C library with which the helpers and Node run, and that Debian 12 has. */
const LIBC = [2, 36] as const;

export async function installAgent(
  host: HostTransport,
  what: AgentInstallation,
  say: (line: string) => void,
): Promise<Installed> {
  const { role, bundle } = what;
  say(`looking at ${host.name}`);
  const former = await look(host, role);
  if (!(await isThere(host, `${AGENTS_PREFIX}/${role}/${bundle.version}`))) {
    say(`uploading ${role} ${bundle.version}`);
    const archive = await host.install(bundle.file);
    await shell(host, UNPACK, [`${AGENTS_PREFIX}/${role}`, bundle.version, archive], UNPACK_MS);
  }
  say('enrolling');
  await enrol(host, what);
  await configure(host, what);
  say(former === null ? 'starting it' : `switching over from ${former}`);
  const unit = `seamless-${role}.service`;
  await host.writeFile(`/etc/systemd/system/${unit}`, readFileSync(join(UNITS, unit), 'utf8'));
  await shell(host, SWITCH_OVER, [`${AGENTS_PREFIX}/${role}`, bundle.version, unit]);
  await what.ask();
  await shell(host, FORGET, [`${AGENTS_PREFIX}/${role}`, bundle.version, former ?? bundle.version]);
  say(`${role} ${bundle.version} answers as ${what.name}`);
  return { version: bundle.version, former };
}

/** @returns the version that is there; throws `PREREQUISITE_MISSING` for what can't be put there by us */
async function look(host: HostTransport, role: AgentRole): Promise<string | null> {
  const { stdout } = await shell(host, LOOK, [`${AGENTS_PREFIX}/${role}`]);
  const facts = new Map(stdout.split('\n').map((line) => line.split(' ', 2) as [string, string]));
  const [major = 0, minor = 0] = (facts.get('libc') ?? '').split('.').map(Number);
  const missing = [
    ...(facts.get('machine') === 'x86_64' ? [] : [`an x86-64 processor, got ${facts.get('machine')}`]),
    ...(facts.get('systemd') ? [] : ['systemd']),
    ...(major > LIBC[0] || (major === LIBC[0] && minor >= LIBC[1])
      ? []
      : [`glibc ${LIBC.join('.')} or later (Debian 12), got ${facts.get('libc') ?? 'none'}`]),
    ...(role === 'vm-agent' && !facts.get('criu') ? ['criu 4.2 or later'] : []),
    ...(role === 'sink-agent' ? (facts.get('lacks') ?? '').split(',').filter(Boolean) : []),
  ];
  if (missing.length > 0)
    throw new SeamlessError('PREREQUISITE_MISSING', `Expected on ${host.name}: ${missing.join('; ')}`);
  return facts.get('version') || null;
}

async function enrol(
  host: HostTransport,
  { role, name, address, authority, bundle }: AgentInstallation,
): Promise<void> {
  const pki = `${CONFIGURATION}/pki`;
  const { stdout: publicKey } = await shell(host, KEY, [
    pki,
    role,
    `${AGENTS_PREFIX}/${role}/${bundle.version}/node`,
  ]);
  const certificate = await certify(authority, publicKey, `${role}:${name}`, [address]);
  await host.writeFile(`${pki}/${role}.crt`, certificate);
  await host.writeFile(`${pki}/ca.crt`, readFileSync(authority.ca, 'utf8'));
}

/** What is there stays, since the operator may have changed it. */
async function configure(host: HostTransport, what: AgentInstallation): Promise<void> {
  const { role, name, address, port, templatesDir } = what;
  const path = `${CONFIGURATION}/${role}.json`;
  if (await isThere(host, path)) return;
  const pki = `${CONFIGURATION}/pki`;
  const listen = { address, port };
  const tls = { ca: `${pki}/ca.crt`, cert: `${pki}/${role}.crt`, key: `${pki}/${role}.key` };
  const config =
    role === 'vm-agent'
      ? { vm: name, listen, tls }
      : {
          ...{ name, listen, tls, templatesDir },
          stateDir: '/var/lib/seamless-sink',
          cgroupRoot: await cgroupRoot(host),
        };
  await host.writeFile(path, `${JSON.stringify(config, null, 2)}\n`);
}

async function isThere(host: HostTransport, path: string): Promise<boolean> {
  return (await shell(host, '[ ! -e "$0" ] || echo there', [path])).stdout.trim() === 'there';
}

/** Beside the unit's own cgroup, which ends with it. */
async function cgroupRoot(host: HostTransport): Promise<string> {
  const { stdout } = await shell(
    host,
    'for root in /sys/fs/cgroup /sys/fs/cgroup/unified; do [ ! -e $root/cgroup.procs ] || [ ! -e $root/cgroup.controllers ] || echo $root; done',
    [],
  );
  return `${stdout.trim().split('\n')[0] || '/sys/fs/cgroup'}/seamless-sinks`;
}

function shell(host: HostTransport, script: string, args: readonly string[], timeoutMs = 30_000) {
  return host.run(['sh', '-c', script, ...args], { timeoutMs });
}

const LOOK = `
echo "machine $(uname -m)"
echo "libc $(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)"
[ -d /run/systemd/system ] && echo "systemd yes"
command -v criu >/dev/null && echo "criu yes"
lacks=
filter=nft
command -v nft >/dev/null || filter=iptables-restore
for command in ip:iproute2 $filter:iptables ethtool:ethtool; do
  command -v "\${command%:*}" >/dev/null || lacks=$lacks\${command#*:},
done
ldconfig -p | grep -qF libnetfilter_queue.so.1 || lacks=\${lacks}libnetfilter-queue1
echo "lacks $lacks"
[ -L "$0/current" ] && echo "version $(basename "$(readlink "$0/current")")"
true`;

/** Complete, or not there: the folder gets its name when all of it is written. */
const UNPACK = `
set -e
rm -rf "$0/$1.new"
mkdir -p "$0/$1.new"
tar -xzf "$2" -C "$0/$1.new"
sync -f "$0/$1.new"
mv -T "$0/$1.new" "$0/$1"
rm -f "$2"`;

/** The key is made there, and stays; by the Node that was just unpacked, so that nothing else is needed. */
const KEY = `
set -e
umask 077
mkdir -p "$0"
exec "$2" -e '
const { createPrivateKey, createPublicKey, generateKeyPairSync } = require("node:crypto");
const { existsSync, readFileSync, renameSync, writeFileSync } = require("node:fs");
const file = process.argv[1];
if (!existsSync(file)) {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  writeFileSync(file + ".new", privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  renameSync(file + ".new", file);
}
const key = createPublicKey(createPrivateKey(readFileSync(file)));
process.stdout.write(key.export({ type: "spki", format: "pem" }));
' "$0/$1.key"`;

const SWITCH_OVER = `
set -e
ln -sfn "$1" "$0/current.new"
mv -T "$0/current.new" "$0/current"
systemctl daemon-reload
systemctl enable --quiet "$2"
systemctl restart "$2"`;

/** The one before stays, to go back to, and so does each whose programs are mounted in a sink that it has made. */
const FORGET = `
mounted=$(cat /proc/[0-9]*/mountinfo 2>/dev/null | grep -o "/$(basename "$0")/[^/ ]*/" | sort -u)
for version in "$0"/*; do
  name=$(basename "$version")
  case $name in current|"$1"|"$2") continue ;; esac
  case $mounted in *"/$name/"*) ;; *) rm -rf "$version" ;; esac
done`;
