/** What a process has mapped, and which namespaces it is in: read for gateway processes only, since it is the dear part of a scan. */
import { readFileSync, readlinkSync } from 'node:fs';

export interface Mapping {
  /** Without ` (deleted)`. */
  path: string;
  deleted: boolean;
  shared: boolean;
  writable: boolean;
  executable: boolean;
  /** Device and inode: the same for every process that maps the same thing. */
  identity: string;
}

export type NamespaceKind = 'cgroup' | 'ipc' | 'mnt' | 'net' | 'pid' | 'user' | 'uts' | 'time';
const NAMESPACES: readonly NamespaceKind[] = ['cgroup', 'ipc', 'mnt', 'net', 'pid', 'user', 'uts', 'time'];

export interface ProcessDetails {
  mappings: Mapping[];
  /** Those in which it is not with PID 1. */
  ownNamespaces: NamespaceKind[];
  /** Resident memory that is in no file, and so goes into the image. */
  anonymousBytes: number;
}

export function readDetails(pid: number): ProcessDetails {
  return {
    mappings: parseMappings(readFileSync(`/proc/${pid}/maps`, 'utf8')),
    ownNamespaces: ownNamespaces(pid),
    anonymousBytes: anonymousBytes(readFileSync(`/proc/${pid}/status`, 'latin1')),
  };
}

/** /proc/PID/maps, one entry per file or shared object; private anonymous memory is left out. */
export function parseMappings(text: string): Mapping[] {
  const mappings = new Map<string, Mapping>();
  for (const line of text.split('\n')) {
    const match = /^\S+ (.)(.)(.)(.) \S+ (\S+) (\d+)\s+(\/.*)$/.exec(line);
    if (!match) continue;
    const [, , write, execute, share, device, inode, name = ''] = match;
    const deleted = name.endsWith(' (deleted)');
    const path = deleted ? name.slice(0, -' (deleted)'.length) : name;
    const identity = `${device}:${inode}`;
    const known = mappings.get(identity);
    mappings.set(identity, {
      path,
      deleted,
      identity,
      shared: share === 's' || known?.shared === true,
      writable: (write === 'w' && share === 's') || known?.writable === true,
      executable: execute === 'x' || known?.executable === true,
    });
  }
  return [...mappings.values()];
}

function anonymousBytes(status: string): number {
  const kib = (key: string) => Number(new RegExp(`^${key}:\\s*(\\d+)`, 'm').exec(status)?.[1] ?? 0);
  return (kib('RssAnon') + kib('RssShmem') + kib('VmSwap')) * 1024;
}

function ownNamespaces(pid: number): NamespaceKind[] {
  return NAMESPACES.filter(
    (kind) => readlinkSync(`/proc/${pid}/ns/${kind}`) !== readlinkSync(`/proc/1/ns/${kind}`),
  );
}
