/** What woke a VM, from each of the places that can tell. */
import type { SynEvent } from '../../ovs/redirect.ts';
import type { Trigger } from '../../sink-agent/trigger.ts';
import type { Wake } from './state.ts';

export function sinkWake(trigger: Trigger | null): Wake {
  if (trigger) {
    const { program, pid, syscall, detail } = trigger;
    return { cause: 'syscall', trigger: { program, pid, syscall, detail } };
  }
  // Whoever stopped the sink, its processes wait: only the VM can let them go on.
  return {
    cause: 'syscall',
    trigger: { program: 'unknown', pid: 0, syscall: 'none', detail: 'the sink was stopped' },
  };
}

export function synWake({ source, sourcePort, destination, port }: SynEvent): Wake {
  const from = source.includes(':') ? `[${source}]:${sourcePort}` : `${source}:${sourcePort}`;
  return byConnection(`from ${from} to port ${port} of ${destination}`);
}

/** Connection requests that wait, whose packet-in was not seen. */
export function heldWake(packets: number): Wake {
  return byConnection(`${packets} packets were waiting for the VM`);
}

function byConnection(detail: string): Wake {
  return { cause: 'syn', trigger: { program: null, pid: null, syscall: 'SYN', detail } };
}

/** One readable line. */
export function wakeLine(wake: Wake): string {
  if (wake.cause === 'manual') return 'woken by hand';
  if (wake.cause === 'syn') return `woken by a SYN ${wake.trigger.detail}`;
  return `woken by ${wake.trigger.program}[${wake.trigger.pid}]: ${wake.trigger.detail}`;
}
