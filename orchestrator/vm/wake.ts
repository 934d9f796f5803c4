/** What woke a VM, from each of the places that can tell. Pure. */
import type { SynEvent } from '../../ovs/redirect.ts';
import type { SinkStatus } from '../../sink-agent/api.ts';
import type { Held } from '../sagas/ports.ts';
import type { NetworkTrigger, PlannedCause, PlannedTrigger, Wake } from './state.ts';

type Network = Pick<NetworkTrigger, 'client' | 'destination' | 'port'>;

/** A sink that is frozen. Whoever stopped it, its processes wait: only the VM can let them go on. */
export function sinkWake({ trigger, reason }: Pick<SinkStatus, 'trigger' | 'reason'>): Wake {
  if (trigger) return { cause: 'syscall', at: now(), trigger };
  const detail = reason ?? 'nobody said why';
  return {
    cause: 'sink',
    at: now(),
    trigger: { program: null, pid: null, syscall: 'none', detail, rule: 'sink.stopped' },
  };
}

/** A connection request that the switch has seen. */
export function synWake({ source, sourcePort, destination, port, at }: SynEvent): Wake {
  return connectionWake({ client: endpoint(source, sourcePort), destination, port }, at.toISOString());
}

/** Packets that a look found waiting at the VM's port: their trigger was missed, or came while the VM was parked. */
export function heldWake({ packets, first }: Held): Wake {
  const network: Network = first
    ? { client: endpoint(first.source, first.sourcePort), destination: first.destination, port: first.port }
    : {};
  if (first?.syn) return connectionWake(network, now(), ', found waiting');
  const one = first ? `, the first ${first.protocol} from ${network.client} to ${to(network)}` : '';
  const detail = `${packets} waiting for the VM${one}`;
  const common = { program: null, pid: null, detail, ...network } as const;
  return { cause: 'packets', at: now(), trigger: { ...common, syscall: 'packet', rule: 'packets.waiting' } };
}

/** @param detail completes “woken by” */
export function askedWake(cause: 'webhook' | 'outside', detail: string): Wake {
  const rule = cause === 'webhook' ? 'webhook.alarm' : 'outside.resumed';
  return { cause, at: now(), trigger: { program: null, pid: null, syscall: 'none', detail, rule } };
}

export function manualWake(): Wake {
  return { cause: 'manual', at: now(), trigger: null };
}

/** What was known beforehand. `detail` completes “woken because …”. */
export function plannedWake(cause: PlannedCause, detail: string): Wake {
  const trigger: PlannedTrigger = {
    program: null,
    pid: null,
    syscall: 'none',
    detail,
    rule: PLANNED_RULE[cause],
  };
  return { cause, at: now(), trigger };
}

const PLANNED_RULE: Record<PlannedCause, PlannedTrigger['rule']> = {
  timer: 'timer.due',
  lease: 'lease.ends',
  forecast: 'use.expected',
  policy: 'policy.never',
};

/** Ahead of what it is for, or by an operator: what the VM does in the minute after it says nothing about such a wake. */
export function isPlanned(cause: Wake['cause']): boolean {
  return cause === 'manual' || cause === 'webhook' || cause === 'outside' || cause in PLANNED_RULE;
}

/** One readable line. */
export function wakeLine({ cause, trigger }: Pick<Wake, 'cause' | 'trigger'>): string {
  if (!trigger || cause === 'manual') return 'woken by hand';
  if (cause === 'webhook' || cause === 'outside') return `woken by ${trigger.detail}`;
  if (cause === 'syn') return `woken by a SYN ${trigger.detail}`;
  if (cause === 'packets') return `woken by packets: ${trigger.detail}`;
  if (cause in PLANNED_RULE) return `woken because ${trigger.detail}`;
  if (cause === 'sink') return `woken because its sink stopped: ${trigger.detail}`;
  const client = 'client' in trigger && trigger.client ? ` for ${trigger.client}` : '';
  return `woken by ${trigger.program}[${trigger.pid}]${client}: ${trigger.detail}`;
}

/** The filter's words taken apart: `openat("/etc/motd", O_RDONLY)` and `opens a file; the VM has the real ones`. */
export function callAndReason(detail: string): { call: string | null; reason: string } {
  const at = detail.lastIndexOf(': ');
  return at < 0
    ? { call: null, reason: detail }
    : { call: detail.slice(0, at), reason: detail.slice(at + 2) };
}

function connectionWake(network: Network, at: string, more = ''): Wake {
  const detail = `from ${network.client} to ${to(network)}${more}`;
  return {
    cause: 'syn',
    at,
    trigger: { program: null, pid: null, syscall: 'SYN', detail, rule: 'connection.request', ...network },
  };
}

function to({ destination, port }: Network): string {
  return port ? `port ${port} of ${destination}` : `${destination}`;
}

function endpoint(address: string, port: number): string {
  if (port === 0) return address;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

function now(): string {
  return new Date().toISOString();
}
