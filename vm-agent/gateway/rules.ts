/**
 * Every rule by which a VM is refused, with the remedy that its operator is told. docs/parking-rules.md lists the same rules, and a
 * test holds the two together.
 */
import type { Refusal } from '../api.ts';

const END = 'End it before parking, or configure it not to.';
const PART = 'Reconfigure one of the two so that they don’t depend on each other, or end one before parking.';

export const REMEDIES = {
  'socket-activation':
    'Disable the socket unit and enable the service itself: `systemctl disable --now NAME.socket; systemctl enable --now NAME.service`.',
  'infrastructure-listener':
    'Configure it not to listen on the production network, or exempt the VM from parking.',
  'kernel-listener':
    'Turn that service of the kernel off (NFS server, in-kernel tunnel), or exempt the VM from parking.',
  'user-service': 'Run it as a system service.',
  'session-outside': 'Start it as a service, or with setsid.',
  'notify-access':
    'Add a drop-in with [Service] NotifyAccess=all to the unit, then `systemctl daemon-reload`.',
  'unix-outside': PART,
  'link-outside': PART,
  'link-between-trees': PART,
  'memory-outside': PART,
  'lock-outside': PART,
  'pidfd-outside': PART,
  'management-connection': 'Close that connection, or make it over the production network.',
  'management-listener':
    'Configure it to listen on all addresses at once (`::`) or on those of the production network; BIND: `listen-on-v6 { none; };` or the addresses.',
  'connection-waiting': 'Wait until the service has taken it: a VM with work in its queues is not idle.',
  'raw-socket': END,
  'packet-socket': END,
  'ping-socket': END,
  'sctp-socket': END,
  'mptcp-socket':
    'Set `net.mptcp.enabled=0` (sysctl) and restart the service; for Go programs `Environment=GODEBUG=multipathtcp=0` will do.',
  multicast:
    'Configure the service not to join multicast groups (mDNS, SSDP, routing), or exempt the VM from parking.',
  'io-uring':
    'Set `kernel.io_uring_disabled=2` (sysctl) and restart the service: it then uses epoll or threads; for one service alone `SystemCallFilter=~io_uring_setup:ENOSYS` will do.',
  'kernel-object': END,
  'message-queue': END,
  device: 'End it before parking, or run it without the device.',
  'deleted-large': 'Restart the service, so that it lets go of the deleted file.',
  'blocked-call': 'Configure it to wait in poll or epoll, or in a lock in memory.',
  traced: 'End the tracer (strace, gdb) before parking.',
  'deleted-executable': 'Restart the service, so that it runs what is installed.',
  'template-mismatch': 'Build a template that has the same file, and make the VM from it.',
  'mapped-file': 'Configure it to read the file instead of mapping it, or put the file into the template.',
  'shared-file-mapping': 'Configure it not to map its data file, or to map it privately.',
  'system-v-memory': 'Configure it to use mmap, or give the unit PrivateIPC=yes.',
  memory: 'Give the VM more memory, or the service less.',
  namespace: 'Turn off the option of its unit or configuration that isolates it.',
} as const satisfies Record<string, string>;

export type RuleName = keyof typeof REMEDIES;

/** What a rule found at one process: the remedy follows from the rule. */
export interface Finding {
  rule: RuleName;
  descriptor?: string;
  reason: string;
}

export function refusal(finding: Finding, { pid, program }: { pid: number; program: string }): Refusal {
  return { ...finding, pid, program, remedy: REMEDIES[finding.rule] };
}
