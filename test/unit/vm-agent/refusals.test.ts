import { describe, expect, it } from 'vitest';
import { gatewaySet } from '../../../vm-agent/gateway/closure.ts';
import type { ProcessDetails } from '../../../vm-agent/gateway/mappings.ts';
import { refusalsOf } from '../../../vm-agent/gateway/refusals.ts';
import type { Socket } from '../../../vm-agent/gateway/sockets.ts';
import type { UnitFacts } from '../../../vm-agent/systemd/unit.ts';
import { connected, guest, listening, OPTIONS, type ProcessSketch, unix } from './guest.ts';

interface Given {
  processes?: ProcessSketch[];
  sockets?: Record<number, Socket>;
  details?: Partial<ProcessDetails>;
  units?: UnitFacts[];
  maps?: string[];
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
  const snapshot = guest([daemon, ...(given.processes ?? [])], { 1: listening(22), ...given.sockets });
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
