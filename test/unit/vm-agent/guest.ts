/** A small guest to describe in a few lines: processes with descriptors, sockets by inode. */
import { type Mapping, parseMappings } from '../../../vm-agent/gateway/mappings.ts';
import type { Descriptor, Process, Snapshot } from '../../../vm-agent/gateway/snapshot.ts';
import type { InetSocket, Socket, UnixSocket } from '../../../vm-agent/gateway/sockets.ts';

export const AGENT = 90;
export const OPTIONS = {
  agent: AGENT,
  addresses: ['10.0.0.11'],
  linkLocal: ['fe80::11'],
  managementAddress: '10.1.0.11',
};

const IDLE = { waiting: 0, multipath: false };

export interface ProcessSketch {
  pid: number;
  program?: string;
  parent?: number;
  session?: number;
  unit?: string;
  fds?: (string | Omit<Descriptor, 'fd'>)[];
  /** Lines of /proc/PID/maps without their addresses: `rw-s 00000000 00:01 7 /dev/zero (deleted)`. */
  maps?: string[];
}

export function guest(
  processes: readonly ProcessSketch[],
  sockets: Record<number, Socket> = {},
  locks: Snapshot['locks'] = [],
): Snapshot {
  const base: ProcessSketch[] = [
    { pid: 1, program: 'systemd', parent: 0, session: 1, unit: 'init.scope' },
    { pid: 50, program: 'systemd-journal', unit: 'systemd-journald.service' },
    { pid: AGENT, program: 'node', unit: 'seamless-vm-agent.service' },
  ];
  const all = [...base.filter(({ pid }) => !processes.some((one) => one.pid === pid)), ...processes];
  return {
    processes: new Map(all.map((sketch) => [sketch.pid, expand(sketch)])),
    sockets: new Map(Object.entries(sockets).map(([inode, socket]) => [Number(inode), socket])),
    locks,
    groups: [],
    mappings: (pid) => mapped(all.find((sketch) => sketch.pid === pid)?.maps ?? []),
  };
}

export function listening(port: number, address = '0.0.0.0', protocol: 'tcp' | 'udp' = 'tcp'): InetSocket {
  const remote = { address: '0.0.0.0', port: 0 };
  return { kind: 'inet', protocol, state: 'listening', local: { address, port }, remote, ...IDLE };
}

export function connected(local: string, remote: string): InetSocket {
  const endpoint = (text: string) => ({
    address: text.split(':')[0] ?? '',
    port: Number(text.split(':')[1]),
  });
  return {
    kind: 'inet',
    protocol: 'tcp',
    state: 'connected',
    local: endpoint(local),
    remote: endpoint(remote),
    ...IDLE,
  };
}

export function unix(
  peer: number,
  path = '',
  type: UnixSocket['type'] = 'stream',
  isListening = false,
): UnixSocket {
  return { kind: 'unix', type, listening: isListening, path, peer, pending: false, waiting: 0 };
}

function mapped(maps: readonly string[]): Mapping[] {
  return parseMappings(maps.map((line) => `7f0000000000-7f0000001000 ${line}`).join('\n'));
}

function expand({
  pid,
  program = 'daemon',
  parent = 1,
  session = pid,
  unit,
  fds = [],
}: ProcessSketch): Process {
  const unitName = unit ?? `${program}.service`;
  return {
    pid,
    parent,
    session,
    program,
    startTime: pid * 100,
    executable: `/usr/sbin/${program}`,
    cgroup: `/system.slice/${unitName}`,
    unit: unitName,
    descriptors: fds.map((fd, index) => ({ fd: index, ...(typeof fd === 'string' ? { target: fd } : fd) })),
  };
}
