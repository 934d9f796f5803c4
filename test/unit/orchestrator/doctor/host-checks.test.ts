import { expect, test } from 'vitest';
import { findings } from '../../../../orchestrator/doctor/finding.ts';
import { checksOf } from '../../../../orchestrator/doctor/host-checks.ts';
import { type HostFacts, parseFacts } from '../../../../orchestrator/doctor/host-facts.ts';

const TOOLS = ['iptables', 'ip6tables', 'ip', 'bridge', 'nsenter', 'timeout', 'setsid', 'libnetfilter_queue'];
const GIB = 1024 * 1024;
const FINE: HostFacts = {
  kernel: '6.12.0',
  tools: Object.fromEntries(TOOLS.map((name) => [name, true])),
  options: Object.fromEntries(
    [
      ...['NETFILTER_NETLINK_QUEUE', 'NETFILTER_XT_TARGET_NFQUEUE', 'BRIDGE_NETFILTER', 'MEMCG', 'SWAP'],
      ...['CHECKPOINT_RESTORE', 'UNIX_DIAG', 'INET_DIAG', 'INET_UDP_DIAG', 'PACKET_DIAG', 'NETLINK_DIAG'],
      ...['NET_NS', 'PID_NS'],
    ].map((name) => [name, 'm']),
  ),
  swaps: [{ path: '/swap', kib: 64 * GIB, medium: 'solid-state' }],
  memoryKib: 64 * GIB,
  cgroup: 'v2',
  hasFreezer: true,
  skewMs: 20,
  skewWithinMs: 30,
};
const BOTH = { hypervisor: true, sinkServer: true, swaps: true };

test('a host that has everything is in order', () => {
  expect(checksOf(FINE, BOTH).filter(({ status }) => status !== 'ok')).toEqual([]);
});

test.each<[what: string, facts: Partial<HostFacts>, check: string, status: string, mend: RegExp]>([
  [
    'no bridge command',
    { tools: { ...FINE.tools, bridge: false } },
    'commands',
    'missing',
    /apt install iproute2/,
  ],
  [
    'no queue library',
    { tools: { ...FINE.tools, libnetfilter_queue: false } },
    'library of the packet buffer',
    'missing',
    /libnetfilter-queue1/,
  ],
  [
    'a kernel without checkpoints',
    { options: { ...FINE.options, CHECKPOINT_RESTORE: 'n' } },
    'kernel: checkpoint and restore',
    'missing',
    /Run a kernel/,
  ],
  [
    'a kernel that says nothing of itself',
    { options: {} },
    'kernel: packet queue, memory limits',
    'unknown',
    /CONFIG_NETFILTER_XT_TARGET_NFQUEUE/,
  ],
  ['no swap', { swaps: [] }, 'swap', 'missing', /mkswap/],
  [
    'little swap',
    { swaps: [{ path: '/s', kib: GIB, medium: 'solid-state' }] },
    'swap',
    'warning',
    /64\.0 GiB of memory/,
  ],
  [
    'swap on a disk',
    { swaps: [{ path: '/s', kib: 99 * GIB, medium: 'rotating' }] },
    'swap',
    'warning',
    /takes seconds/,
  ],
  ['no cgroups', { cgroup: 'none' }, 'memory cgroups', 'missing', /cgroup v2/],
  ['no freezer', { hasFreezer: false }, 'cgroup freezer', 'missing', /cgroup v2/],
  ['a clock that is wrong', { skewMs: -90_000 }, 'clock', 'warning', /time service/],
])('%s is found, with what mends it', (_what, facts, check, status, mend) => {
  const found = findings('host hv', checksOf({ ...FINE, ...facts }, BOTH)).filter(
    (each) => each.status !== 'ok',
  );
  expect(found).toContainEqual({
    subject: 'host hv',
    check,
    status,
    found: expect.any(String),
    mend: expect.stringMatching(mend),
  });
});

test('a slow answer is no wrong clock, and a host is asked only for what its part needs', () => {
  expect(checksOf({ ...FINE, skewMs: 2500, skewWithinMs: 2000 }, BOTH)[0]?.status).toBe('ok');
  const sink = checksOf(
    { ...FINE, swaps: [], cgroup: 'none', tools: { libnetfilter_queue: true } },
    { hypervisor: false, sinkServer: true, swaps: true },
  );
  expect(sink.map(({ status }) => status)).toEqual(['ok', 'ok', 'ok', 'ok']);
});

test('what a host prints is read line by line, and what is not there stays unknown', () => {
  const said =
    'kernel 6.1\ntool ip yes\ntool bridge no\noption SWAP y\nswap /dev/sda2 1048572 rotating\nmemory 2048\nfreezer\nodd line';
  expect(parseFacts(said)).toEqual({
    kernel: '6.1',
    tools: { ip: true, bridge: false },
    options: { SWAP: 'y' },
    swaps: [{ path: '/dev/sda2', kib: 1048572, medium: 'rotating' }],
    memoryKib: 2048,
    cgroup: 'none',
    hasFreezer: true,
  });
});
