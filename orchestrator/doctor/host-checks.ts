/** The checks of one host: as a hypervisor, as a sink server, or both. */
import { datapathOf } from '../../ovs/ovsdb/ports.ts';
import type { HostConfig } from '../config.ts';
import type { HostLink } from '../network/host-link.ts';
import { asked, type Check } from './finding.ts';
import { type HostFacts, hostFacts } from './host-facts.ts';

export interface Roles {
  hypervisor: boolean;
  sinkServer: boolean;
  /** Its VMs are switched off to swap. */
  swaps: boolean;
}

const MOST_SKEW_MS = 1000;
const HYPERVISOR_OPTIONS = [
  ...['NETFILTER_NETLINK_QUEUE', 'NETFILTER_XT_TARGET_NFQUEUE', 'BRIDGE_NETFILTER'],
  ...['MEMCG', 'SWAP'],
];
const SINK_OPTIONS = [
  ...['CHECKPOINT_RESTORE', 'UNIX_DIAG', 'INET_DIAG', 'INET_UDP_DIAG', 'PACKET_DIAG', 'NETLINK_DIAG'],
  ...['NET_NS', 'PID_NS'],
];
const HYPERVISOR_TOOLS = ['iptables', 'ip6tables', 'ip', 'bridge', 'nsenter', 'timeout', 'setsid'];
/** Of Debian, where the package has another name than the program. */
const PACKAGES: Record<string, string> = {
  ...{
    ip6tables: 'iptables',
    ip: 'iproute2',
    bridge: 'iproute2',
    nsenter: 'util-linux',
    setsid: 'util-linux',
  },
  ...{ timeout: 'coreutils', libnetfilter_queue: 'libnetfilter-queue1' },
};

export async function examineHost(config: HostConfig, link: HostLink, roles: Roles): Promise<Check[]> {
  const { transport } = link;
  let facts: HostFacts | undefined;
  const reached = await asked('reachable', link.reachability.loss?.next ?? 'See docs/hosts.md.', async () => {
    facts = await hostFacts(transport);
    return `${config.transport.type}, Linux ${facts.kernel}`;
  });
  if (!facts) return [reached];
  const start = 'Start Open vSwitch there, and compare the path with those in its run folder.';
  const make = `Or make the bridge: ovs-vsctl add-br ${config.bridge}`;
  const openvswitch = await Promise.all([
    asked(`bridge ${config.bridge}`, `${start} ${make}`, async () => {
      await link.openflow.connection();
      return config.openflowSocket;
    }),
    asked('OVSDB', start, async () => {
      const datapath = await datapathOf(await link.ovsdb(), config.bridge);
      return `${config.ovsdbSocket}, ${datapath} datapath`;
    }),
    asked('switch control', start, async () => {
      const path = await link.switchControl();
      (await transport.connect(path)).destroy();
      return path;
    }),
  ]);
  return [reached, ...openvswitch, ...checksOf(facts, roles)];
}

/** Exported for its test. */
export function checksOf(facts: HostFacts, { hypervisor, sinkServer, swaps }: Roles): Check[] {
  return [
    clockCheck(facts),
    ...(hypervisor
      ? [
          toolCheck('commands', HYPERVISOR_TOOLS, facts),
          toolCheck('library of the packet buffer', ['libnetfilter_queue'], facts),
          optionCheck('kernel: packet queue, memory limits', HYPERVISOR_OPTIONS, facts),
          memoryCgroupCheck(facts),
        ]
      : []),
    ...(hypervisor && swaps ? [swapCheck(facts)] : []),
    ...(sinkServer
      ? [
          toolCheck('library of the syscall filter', ['libnetfilter_queue'], facts),
          optionCheck('kernel: checkpoint and restore', SINK_OPTIONS, facts),
          freezerCheck(facts),
        ]
      : []),
  ];
}

function clockCheck({ skewMs, skewWithinMs }: HostFacts): Check {
  const found = `${Math.round(skewMs)} ms apart from here, known to ${Math.ceil(skewWithinMs)} ms`;
  const far = Math.abs(skewMs) - skewWithinMs > MOST_SKEW_MS;
  const mend =
    'Run a time service on both (chrony, systemd-timesyncd): timers, logs and signatures go by the clock.';
  return { check: 'clock', status: far ? 'warning' : 'ok', found, mend };
}

function toolCheck(check: string, wanted: readonly string[], { tools }: HostFacts): Check {
  const missing = wanted.filter((name) => !tools[name]);
  if (missing.length === 0) return { check, status: 'ok', found: wanted.join(' ') };
  const packages = [...new Set(missing.map((name) => PACKAGES[name] ?? name))].join(' ');
  return { check, status: 'missing', found: `no ${missing.join(', ')}`, mend: `apt install ${packages}` };
}

function optionCheck(check: string, wanted: readonly string[], { options, kernel }: HostFacts): Check {
  const named = (names: readonly string[]) => names.map((name) => `CONFIG_${name}`).join(', ');
  if (Object.keys(options).length === 0) {
    const found = 'the kernel’s configuration is neither in /proc/config.gz nor in /boot';
    return { check, status: 'unknown', found, mend: `See that Linux ${kernel} has ${named(wanted)}.` };
  }
  const missing = wanted.filter((name) => (options[name] ?? 'n') === 'n');
  if (missing.length === 0) return { check, status: 'ok', found: wanted.join(' ') };
  const found = `Linux ${kernel} has not ${named(missing)}`;
  return { check, status: 'missing', found, mend: 'Run a kernel that has it; Debian’s do.' };
}

function memoryCgroupCheck({ cgroup }: HostFacts): Check {
  const status = cgroup === 'none' ? 'missing' : 'ok';
  const mend = 'Mount cgroup v2 with the memory controller, as systemd does.';
  return { check: 'memory cgroups', status, found: cgroup, mend };
}

function freezerCheck({ hasFreezer }: HostFacts): Check {
  const status = hasFreezer ? 'ok' : 'missing';
  const mend = 'Mount cgroup v2, at /sys/fs/cgroup or beside v1 at /sys/fs/cgroup/unified.';
  return { check: 'cgroup freezer', status, found: hasFreezer ? 'v2' : 'no cgroup v2', mend };
}

/** As much as there is memory holds every VM that the host could hold. */
function swapCheck({ swaps, memoryKib }: HostFacts): Check {
  const gib = (kib: number) => `${(kib / 1024 / 1024).toFixed(1)} GiB`;
  const make =
    'Make some on a solid-state disk (fallocate, mkswap, swapon), or set switchOff to ram or disk.';
  const check = 'swap';
  if (swaps.length === 0) return { check, status: 'missing', found: 'none', mend: make };
  const found = swaps.map(({ path, kib, medium }) => `${path}: ${gib(kib)}, ${medium}`).join('; ');
  if (swaps.some(({ medium }) => medium === 'rotating')) {
    const mend = `A wake reads what it needs from it, which takes seconds on a rotating disk. ${make}`;
    return { check, status: 'warning', found, mend };
  }
  if (swaps.reduce((sum, { kib }) => sum + kib, 0) >= memoryKib) return { check, status: 'ok', found };
  const mend = `It has ${gib(memoryKib)} of memory, and not all of that could be parked at once. ${make}`;
  return { check, status: 'warning', found, mend };
}
