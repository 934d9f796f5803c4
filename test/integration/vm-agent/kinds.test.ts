/**
 * Every kind of kernel object that a daemon may hold: what the scan says of it holds in truth. What it lets pass goes to a sink and back
 * and works as before; what it refuses is named with its rule. Each is held by a real process, and moved by the template's CRIU.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startTrial, type Trial } from './fixtures/trial.ts';

/** Moves, and works afterwards. */
const MOVES: readonly (readonly string[])[] = [
  [
    'plain',
    'pipe',
    'socketpair',
    'eventfd',
    'shared-eventfd',
    'timerfd',
    'timer',
    'signalfd',
    'epoll',
    'fifo',
    'zombie',
    'daemon',
    'stopped',
  ],
  [
    'inotify',
    'inotify-etc',
    'inotify-file',
    'inotify-deep',
    'inotify-deep-file',
    'inotify-many',
    'chroot',
    'ipc-namespace',
    'aio',
  ],
  [
    'netlink-route',
    'netlink-groups',
    'netlink-uevent',
    'netlink-audit',
    'netlink-diag',
    'netlink-generic',
    'netlink-netfilter',
    'netlink-unbound',
  ],
  [
    'memfd',
    'memfd-mapping',
    'shared-memory',
    'dev-zero',
    'deleted',
    'deleted-large',
    'deleted-var',
    'deleted-folder',
    'deleted-mapping',
    'renamed',
    'replaced',
  ],
  [
    'file-run',
    'file-large',
    'file-append',
    'folder',
    'path-fd',
    'proc',
    'proc-mounts',
    'proc-other',
    'proc-stat',
    'proc-net',
    'proc-folder',
    'sys',
    'namespace-fd',
  ],
  [
    'flock',
    'flock-var',
    'posix-lock',
    'ofd-lock',
    'lease',
    'pidfd-child',
    'pidfd-self',
    'sysv-semaphore',
    'sysv-queue',
  ],
  [
    'tcp-fresh',
    'tcp-bound',
    'udp',
    'udp-pktinfo',
    'udp6-pktinfo',
    'udplite',
    'bound-device',
    'reuseport',
    'loopback',
    'close-wait',
    'half-closed',
  ],
  [
    'unix-listener',
    'unix-inside',
    'unix-abstract',
    'unix-datagram',
    'unix-deleted',
    'unix-unconnected',
    'unix-dead-peer',
    'unix-in-flight',
  ],
];

/** Moves, but CRIU loses something of it (docs/parking-rules.md says so). */
const LOSES: Readonly<Record<string, string>> = {
  'udp-recverr': 'the option is lost',
};

const REFUSED: Readonly<Record<string, string>> = {
  raw: 'raw-socket',
  raw6: 'raw-socket',
  packet: 'packet-socket',
  mptcp: 'mptcp-socket',
  multicast: 'multicast',
  'io-uring': 'io-uring',
  fanotify: 'kernel-object',
  perf: 'kernel-object',
  bpf: 'kernel-object',
  userfaultfd: 'kernel-object',
  secret: 'kernel-object',
  'posix-queue': 'message-queue',
  'sysv-memory': 'system-v-memory',
  'shared-file': 'shared-file-mapping',
  'posix-memory': 'shared-file-mapping',
  'private-file': 'mapped-file',
  'semaphore-waiter': 'blocked-call',
  'lock-waiter': 'blocked-call',
  'pidfd-outside': 'pidfd-outside',
  'not-accepted': 'connection-waiting',
  tracer: 'traced',
  'user-namespace': 'namespace',
  'network-namespace': 'namespace',
  'pid-namespace': 'namespace',
  'cgroup-namespace': 'namespace',
};

let trial: Trial;

beforeAll(async () => {
  trial = await startTrial('kinds');
}, 60_000);
afterEach(() => trial?.clear());
afterAll(() => trial?.end(), 60_000);

/** Each has the port after its own for itself. */
const portOf = (index: number) => 7000 + 2 * index;

describe('what a daemon holds', () => {
  it.each([...MOVES, Object.keys(LOSES)])(
    'moves and comes back: %s …',
    async (...kinds) => {
      for (const [index, kind] of kinds.entries()) await trial.start(kind, portOf(index));
      const found = await trial.scan();
      expect(found.scan.refusals).toEqual([]);
      expect(await trial.thereAndBack(found)).toBeNull();
      const answers = await Promise.all(
        kinds.map(async (kind, index) => [kind, await trial.ask(portOf(index))]),
      );
      expect(answers).toEqual(kinds.map((kind) => [kind, LOSES[kind] ?? 'ok']));
    },
    60_000,
  );

  it('is refused with its rule, before anything is touched', async () => {
    const kinds = Object.keys(REFUSED);
    for (const [index, kind] of kinds.entries()) await trial.start(kind, portOf(index));
    const { scan, trees } = await trial.scan();
    const rules = kinds.map((kind) => {
      const tree = trees.find(({ folder }) => folder.replace(/-\d+$/, '') === kind);
      const pids = tree?.processes.map(({ pid }) => pid) ?? [];
      return [
        kind,
        [...new Set(scan.refusals.filter(({ pid }) => pids.includes(pid)).map(({ rule }) => rule))],
      ];
    });
    expect(rules).toEqual(kinds.map((kind) => [kind, [REFUSED[kind]]]));
    for (const { reason, remedy } of scan.refusals) expect([reason, remedy]).not.toContain('');
  }, 60_000);
});

describe('two services', () => {
  const rulesOf = async () => (await trial.scan()).scan.refusals.map(({ rule }) => rule);

  it('move together when one has a TCP connection to the other, and it lives on', async () => {
    await trial.start('echo-server', 0); // belongs to the set by the connection alone
    await trial.start('echo-client');
    const found = await trial.scan();
    expect(found.scan.processes.map(({ because }) => because)).toContainEqual(
      expect.stringMatching(/^shares socket:\[\d+\] with victim\[\d+\]$/),
    );
    expect(found.trees).toHaveLength(2);
    expect(found.scan.refusals).toEqual([]);
    expect(await trial.thereAndBack(found)).toBeNull();
    expect(await trial.ask(7000)).toBe('ok');
  }, 60_000);

  it('are refused when a stream over a unix socket ties them together', async () => {
    await trial.start('unix-echo-server', 0);
    await trial.start('unix-echo-client');
    expect(await rulesOf()).toEqual(['link-between-trees', 'link-between-trees']);
  });

  it('are refused when one has connected to the other by a unix socket and was not accepted', async () => {
    await trial.start('unix-listener', 0);
    await trial.start('unix-client');
    expect(await rulesOf()).toEqual(['unix-outside']);
  });

  it('are parted when one only sends datagrams to the other by its path, and it finds it again', async () => {
    await trial.start('unix-datagram', 0);
    await trial.start('datagram-client');
    const found = await trial.scan();
    expect(found.trees).toHaveLength(1);
    expect(found.scan.refusals).toEqual([]);
    expect(await trial.thereAndBack(found)).toBeNull();
    expect(await trial.ask(7000)).toBe('ok');
  }, 60_000);

  it('are refused when both move and one sends datagrams to the other, or when the clients of a moving one stay', async () => {
    await trial.start('unix-datagram', 7002);
    await trial.start('datagram-client');
    expect(await rulesOf()).toEqual(['link-between-trees']);
    await trial.clear();
    await trial.start('unix-datagram');
    await trial.start('datagram-client', 0);
    expect(await rulesOf()).toEqual(['unix-outside']);
  });

  it('are refused when both have a FIFO open', async () => {
    await trial.start('fifo', 7002);
    await trial.start('fifo');
    expect(await rulesOf()).toEqual(['link-between-trees', 'link-between-trees']);
  });
});
