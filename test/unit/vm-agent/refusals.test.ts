import { describe, expect, it } from 'vitest';
import { gatewaySet } from '../../../vm-agent/gateway/closure.ts';
import type { ProcessDetails } from '../../../vm-agent/gateway/mappings.ts';
import { refusalsOf } from '../../../vm-agent/gateway/refusals.ts';
import type { Snapshot } from '../../../vm-agent/gateway/snapshot.ts';
import type { Socket } from '../../../vm-agent/gateway/sockets.ts';
import type { UnitFacts } from '../../../vm-agent/systemd/unit.ts';
import { connected, guest, listening, OPTIONS, type ProcessSketch, unix } from './guest.ts';

interface Given {
  processes?: ProcessSketch[];
  sockets?: Record<number, Socket>;
  details?: Partial<ProcessDetails>;
  units?: UnitFacts[];
  maps?: string[];
  locks?: Snapshot['locks'];
}

const NOTHING_ODD: ProcessDetails = {
  changedFiles: [],
  ownNamespaces: [],
  namespaceNames: {},
  anonymousBytes: 0,
  tracer: 0,
  calls: [],
  deletedFiles: [],
  messageQueues: [],
};

/** Rules that speak against a guest with one daemon, PID 200, that has `fds` open beside its listener. */
function refusals(fds: ProcessSketch['fds'], given: Given = {}) {
  const daemon = { pid: 200, program: 'daemon', fds: ['socket:[1]', ...(fds ?? [])], maps: given.maps ?? [] };
  const sockets = { 1: listening(22), ...given.sockets };
  const snapshot = guest([daemon, ...(given.processes ?? [])], sockets, given.locks);
  const set = gatewaySet(snapshot, OPTIONS);
  const details = new Map([...set.members.keys()].map((pid) => [pid, { ...NOTHING_ODD, ...given.details }]));
  const units = new Map((given.units ?? []).map((facts) => [facts.unit, facts]));
  return refusalsOf({ snapshot, set, details, units, availableBytes: 100, options: OPTIONS });
}

const rules = (...given: Parameters<typeof refusals>) => refusals(...given).map(({ rule }) => rule);

describe('what speaks against parking', () => {
  it('is nothing, for a plain daemon with files, pipes of its own, epoll, a pty and the known externals', () => {
    const sockets = {
      2: unix(3),
      3: unix(2, '/run/systemd/journal/stdout'),
      4: unix(5, '', 'dgram'),
      5: unix(0, '/run/systemd/journal/dev-log', 'dgram'),
      6: connected('10.0.0.11:22', '10.0.0.2:5000'),
    };
    const fds = [
      ...['/dev/null', 'pipe:[7]', 'pipe:[7]', 'anon_inode:[eventpoll]', '/var/log/daemon.log', '/dev/pts/0'],
      ...['socket:[2]', 'socket:[4]', 'socket:[6]', '/run/systemd/sessions/1.ref', 'socket:[99]'],
      { target: '/dev/ptmx', terminal: 0 },
    ];
    const journald = {
      pid: 50,
      program: 'systemd-journal',
      unit: 'systemd-journald.service',
      fds: ['socket:[3]', 'socket:[5]'],
    };
    expect(refusals(fds, { sockets, processes: [journald] })).toEqual([]);
  });

  it('names process, descriptor, reason and remedy', () => {
    const dbus = { pid: 60, program: 'dbus-daemon', unit: 'dbus.service', fds: ['socket:[3]'] };
    const sockets = { 2: unix(3), 3: unix(2, '/run/dbus/system_bus_socket') };
    expect(refusals(['socket:[2]'], { sockets, processes: [dbus] })).toEqual([
      {
        rule: 'unix-outside',
        pid: 200,
        program: 'daemon',
        descriptor: '1 → socket:[2]',
        reason: 'it shares this with dbus-daemon[60], which stays in the VM (at /run/dbus/system_bus_socket)',
        remedy: expect.stringContaining('Reconfigure'),
      },
    ]);
  });

  it('is a pipe to what stays', () => {
    const systemd = { pid: 1, program: 'systemd', parent: 0, unit: 'init.scope', fds: ['pipe:[7]'] };
    expect(rules(['pipe:[7]'], { processes: [systemd] })).toEqual(['link-outside']);
  });

  it('is a link between two services, since each is dumped by itself', () => {
    const other = { pid: 300, program: 'backend', fds: ['pipe:[7]'] };
    expect(rules(['pipe:[7]'], { processes: [other] })).toEqual(['link-between-trees', 'link-between-trees']);
  });

  it('is not a connection within the VM to another service that moves too, but to what stays', () => {
    const sockets = {
      2: connected('127.0.0.1:5000', '127.0.0.1:9000'),
      3: connected('127.0.0.1:9000', '127.0.0.1:5000'),
    };
    const backend = { pid: 300, program: 'backend', fds: ['socket:[3]'] };
    expect(rules(['socket:[2]'], { sockets, processes: [backend] })).toEqual([]);
    const stays = { ...backend, program: 'chronyd', unit: 'chrony.service' };
    expect(rules(['socket:[2]'], { sockets, processes: [stays] })).toEqual(['link-outside']);
    const heir = { pid: 301, program: 'heir', fds: ['socket:[2]'] };
    expect(rules(['socket:[2]'], { sockets, processes: [backend, heir] })).toEqual([
      ...['link-between-trees', 'link-between-trees'],
    ]);
  });

  it('is a connection over the management network', () => {
    const sockets = { 2: connected('10.1.0.11:22', '10.1.0.1:5000') };
    const [refusal] = refusals(['socket:[2]'], { sockets });
    expect(refusal).toMatchObject({
      rule: 'management-connection',
      reason: expect.stringContaining('10.1.0.1:5000'),
    });
  });

  it('is bound to a link-local address of the management network', () => {
    const rulesAt = (address: string) => rules(['socket:[2]'], { sockets: { 2: listening(53, address) } });
    expect(rulesAt('fe80::12')).toEqual(['management-listener']);
    expect(rulesAt('fe80::11')).toEqual([]);
  });

  it.each(['raw', 'packet', 'ping', 'sctp'] as const)('is a %s socket', (kind) => {
    expect(rules(['socket:[2]'], { sockets: { 2: { kind } } })).toEqual([`${kind}-socket`]);
  });

  it.each([
    ['anon_inode:[io_uring]', 'io-uring'],
    ['anon_inode:[perf_event]', 'kernel-object'],
    ['/dev/vda', 'device'],
    ['/dev/tty1', 'device'],
  ])('is %s', (target, rule) => {
    expect(rules([target])).toEqual([rule]);
  });

  it.each([
    ['a replaced executable', 'r-xp 00000000 fe:00 12 /usr/sbin/daemon (deleted)', 'deleted-executable'],
    ['System V memory', 'rw-s 00000000 00:01 32769 /SYSV00000000 (deleted)', 'system-v-memory'],
    [
      'a file mapped for writing by all',
      'rw-s 00000000 fe:00 13 /var/lib/daemon/data',
      'shared-file-mapping',
    ],
  ])('is %s', (_name, line, rule) => {
    expect(rules([], { maps: [line] })).toEqual([rule]);
  });

  it.each([
    'rw-p 00000000 fe:00 13 /var/lib/daemon/data',
    'r--s 00000000 fe:00 13 /usr/lib/locale/locale-archive',
    'rw-s 00000000 00:01 2049 /dev/zero (deleted)',
    'r--p 00000000 fe:00 14 /usr/share/old (deleted)',
  ])('is not the mapping %s', (line) => {
    expect(rules([], { maps: [line] })).toEqual([]);
  });

  it('is memory that a process outside, or of another service, sees', () => {
    const line = (flags: string) => `${flags} 00000000 00:01 2049 /dev/zero (deleted)`;
    const other = { pid: 300, program: 'other', maps: [line('r--s')] };
    const rulesWith = (process: ProcessSketch) => rules([], { maps: [line('rw-s')], processes: [process] });
    expect(rulesWith({ ...other, unit: 'cron.service' })).toEqual(['memory-outside']);
    expect(rulesWith(other)).toEqual(['link-between-trees', 'link-between-trees']);
    expect(rulesWith({ ...other, parent: 200 })).toEqual([]);
    expect(rules([], { maps: [line('r--s')], processes: [{ ...other, unit: 'cron.service' }] })).toEqual([]);
  });

  it('is a file lock between it and what stays, while one waits', () => {
    const other = { pid: 300, program: 'cron', unit: 'cron.service' };
    const locks = [{ file: 'fe:00:7', pids: [200, 300] }];
    expect(rules([], { processes: [other], locks })).toEqual(['lock-outside']);
    expect(rules([], { processes: [{ pid: 300, parent: 200 }], locks })).toEqual([]);
  });

  it('is a pidfd of what stays, and not one of its own child', () => {
    const pidfd = (refersTo: number) => [{ target: 'anon_inode:[pidfd]', refersTo }];
    expect(rules(pidfd(50))).toEqual(['pidfd-outside']);
    expect(rules(pidfd(300), { processes: [{ pid: 300, parent: 200 }] })).toEqual([]);
    expect(rules(pidfd(-1))).toEqual([]);
  });

  it('is work that waits in a queue: a client, a datagram', () => {
    for (const protocol of ['tcp', 'udp'] as const) {
      const sockets = { 2: { ...listening(80, '0.0.0.0', protocol), waiting: 1 } };
      expect(rules(['socket:[2]'], { sockets })).toEqual(['connection-waiting']);
    }
    expect(
      rules(['socket:[2]'], { sockets: { 2: { ...unix(0, '/run/x', 'stream', true), waiting: 1 } } }),
    ).toEqual(['connection-waiting']);
  });

  it('is multipath TCP', () => {
    const sockets = { 2: { ...listening(80), multipath: true } };
    expect(rules(['socket:[2]'], { sockets })).toEqual(['mptcp-socket']);
  });

  it('is a unix connection that was not accepted, and clients that stay connected to its datagram socket', () => {
    expect(rules(['socket:[2]'], { sockets: { 2: { ...unix(0), pending: true } } })).toEqual([
      'unix-outside',
    ]);
    const sockets = { 2: unix(0, '/run/daemon/log', 'dgram'), 3: unix(2, '', 'dgram') };
    const client = { pid: 300, program: 'cron', unit: 'cron.service', fds: ['socket:[3]'] };
    expect(rules(['socket:[2]'], { sockets, processes: [client] })).toEqual(['unix-outside']);
  });

  it('is not a datagram socket connected to a path of what stays', () => {
    const sockets = { 2: unix(3, '', 'dgram'), 3: unix(0, '/run/other/log', 'dgram') };
    const server = { pid: 300, program: 'other', fds: ['socket:[3]'] };
    expect(rules(['socket:[2]'], { sockets, processes: [server] })).toEqual([]);
    expect(
      rules(['socket:[2]'], {
        sockets: { ...sockets, 4: listening(25) },
        processes: [{ ...server, fds: ['socket:[3]', 'socket:[4]'] }],
      }),
    ).toEqual(['link-between-trees']);
  });

  it.each([
    ['semop', { number: 65, args: [7, 0] }],
    ['flock', { number: 73, args: [3, 2] }],
    ['fcntl(F_SETLKW)', { number: 72, args: [3, 7] }],
    ['read of /run/daemon.fifo', { number: 0, args: [1, 0] }],
    ['recvmsg of socket:[2]', { number: 47, args: [2, 0] }],
  ] as const)('is waiting in %s', (name, { number, args }) => {
    const fds = [{ target: '/run/daemon.fifo', object: 'fifo:1:2' }, 'socket:[2]'];
    const given = {
      sockets: { 2: { kind: 'netlink' } },
      details: { calls: [{ number, args: [...args] }] },
    } as const;
    expect(refusals(fds, given as unknown as Given)).toMatchObject([
      { rule: 'blocked-call', descriptor: name },
    ]);
  });

  it('is not waiting in poll, in accept, in a lock in memory, in a read of a pipe', () => {
    const calls = [7, 43, 202, 0].map((number) => ({ number, args: [1, 0] as [number, number] }));
    expect(rules(['pipe:[3]'], { details: { calls } })).toEqual([]);
  });

  it('is a file that is not the template’s: code, or data that is mapped', () => {
    const changedFiles = ['/usr/sbin/daemon', '/var/lib/daemon/data'];
    const maps = ['r-xp 00000000 fe:00 12 /usr/sbin/daemon', 'r--p 00000000 fe:00 13 /var/lib/daemon/data'];
    expect(rules([], { maps, details: { changedFiles } })).toEqual(['template-mismatch', 'mapped-file']);
    expect(rules([], { maps })).toEqual([]);
  });

  it('is a tracer, a message queue, a large deleted file', () => {
    expect(rules([], { details: { tracer: 50 } })).toEqual(['traced']);
    expect(rules([], { details: { messageQueues: [{ fd: 3, path: '/queue' }] } })).toEqual(['message-queue']);
    const deleted = (bytes: number) => ({ details: { deletedFiles: [{ fd: 3, path: '/tmp/x', bytes }] } });
    expect(rules([], deleted(64 * 2 ** 20))).toEqual([]);
    expect(rules([], deleted(64 * 2 ** 20 + 512))).toEqual(['deleted-large']);
  });

  it('is not the IPC namespace that a whole unit is in, nor System V memory in it', () => {
    const details = { ownNamespaces: ['ipc' as const], namespaceNames: { ipc: 'ipc:[5]' } };
    const maps = ['rw-s 00000000 00:01 32769 /SYSV00000000 (deleted)'];
    expect(rules([], { details, maps })).toEqual([]);
  });

  it('is a namespace of its own, but for mount, UTS and the time one that CRIU itself makes', () => {
    expect(rules([], { details: { ownNamespaces: ['mnt', 'uts', 'time'] } })).toEqual([]);
    expect(rules([], { details: { ownNamespaces: ['net', 'user'] } })).toEqual(['namespace', 'namespace']);
  });

  it('is a service whose main process could not be changed', () => {
    const facts = { unit: 'daemon.service', mainPid: 200 };
    expect(rules([], { units: [{ ...facts, notifyAccess: 'none' }] })).toEqual(['notify-access']);
    expect(rules([], { units: [{ ...facts, notifyAccess: 'main' }] })).toEqual([]);
    expect(rules([], { units: [{ ...facts, mainPid: 7, notifyAccess: 'none' }] })).toEqual([]);
  });

  it('is an image that would not fit into the free memory', () => {
    expect(rules([], { details: { anonymousBytes: 70 } })).toEqual([]);
    expect(rules([], { details: { anonymousBytes: 71 } })).toEqual(['memory']);
  });

  it('is systemd listening itself for a socket unit', () => {
    const systemd = { pid: 1, program: 'systemd', parent: 0, unit: 'init.scope', fds: ['socket:[2]'] };
    const [refusal] = refusals([], { processes: [systemd], sockets: { 2: listening(80) } });
    expect(refusal).toMatchObject({
      rule: 'socket-activation',
      pid: 1,
      reason: expect.stringContaining('tcp 0.0.0.0:80'),
    });
  });

  it('is a session whose leader stays', () => {
    const login = { pid: 70, program: 'login', unit: 'getty@tty1.service', session: 70 };
    const shell = { pid: 200, program: 'nc', parent: 70, session: 70, fds: ['socket:[1]'] };
    const snapshot = guest([login, shell], { 1: listening(9) });
    const set = gatewaySet(snapshot, OPTIONS);
    const details = new Map([[200, NOTHING_ODD]]);
    expect(
      refusalsOf({ snapshot, set, details, units: new Map(), availableBytes: 100, options: OPTIONS }),
    ).toMatchObject([{ rule: 'session-outside', pid: 200 }]);
  });
});
