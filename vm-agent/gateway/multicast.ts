/**
 * Multicast groups that processes of the guest have joined. CRIU does not know of memberships, and the kernel does not tell whose they
 * are: only which interface is in a group.
 */
import { readFileSync } from 'node:fs';
import type { Snapshot } from './snapshot.ts';

/** Groups that the kernel joins by itself: all hosts, all routers, and those of its own IPv6 addresses. */
const KERNELS =
  /^(e0000001|e0000002|ff0[125]0{27}[12]|ff020{19}1ff[0-9a-f]{6}|ff02000000000000000000000000006a)$/;

/** Reads which groups are joined on other interfaces than loopback; as hexadecimal numbers. */
export function readGroups(): string[] {
  const read = (file: string) => {
    try {
      return readFileSync(`/proc/net/${file}`, 'latin1');
    } catch {
      return ''; // no IPv6
    }
  };
  return joinedGroups(read('igmp'), read('igmp6'));
}

/** @param igmp /proc/net/igmp @param igmp6 /proc/net/igmp6 */
export function joinedGroups(igmp: string, igmp6: string): string[] {
  const groups = new Set<string>();
  let device = '';
  for (const line of igmp.split('\n').slice(1)) {
    device = /^\d+\s+(\S+)\s*:/.exec(line)?.[1] ?? device;
    const group = /^\s+([0-9A-F]{8})\s/.exec(line)?.[1];
    // The kernel prints the address as a 32-bit word in the machine's (little-endian) order.
    if (group && device !== 'lo') groups.add(Buffer.from(group, 'hex').reverse().toString('hex'));
  }
  for (const line of igmp6.split('\n')) {
    const [, at, group] = line.trim().split(/\s+/);
    if (group && at !== 'lo') groups.add(group.toLowerCase());
  }
  return [...groups].filter((group) => !KERNELS.test(group)).sort();
}

/** `239.255.255.250`, `ff02:…:fb`. */
export function groupName(group: string): string {
  return group.length === 8
    ? [...Buffer.from(group, 'hex')].join('.')
    : (group.match(/.{4}/g) ?? []).map((part) => part.replace(/^0{1,3}/, '')).join(':');
}

/** True when the process has a UDP socket that listens on any port: only such a one can have joined a group. */
export function hearsDatagrams(pid: number, { processes, sockets }: Snapshot): boolean {
  return (processes.get(pid)?.descriptors ?? []).some(({ target }) => {
    const socket = sockets.get(Number(/^socket:\[(\d+)\]$/.exec(target)?.[1]));
    return socket?.kind === 'inet' && socket.protocol === 'udp' && socket.state === 'listening';
  });
}
