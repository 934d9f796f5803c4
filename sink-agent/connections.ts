/**
 * How new connections are met in a sink: which ports' handshakes go through the filter's accept gate, and where TCP connect
 * checks of listed sources are answered. As netfilter rules of the sink's namespace; docs/activity.md says what a client sees.
 *
 * Both end in the syscall filter: it reads the queue, and it listens at the check port. While it is not there the queue
 * drops, so that nobody gets an answer which the VM might not stand by.
 */
import { exec } from '../common/exec.ts';
import type { Manifest } from '../criu/manifest.ts';
import type { ConnectionPolicy } from './api.ts';
import { RESETS_JUDGED } from './sandbox/resets.ts';

export interface ConnectionPlan {
  /** TCP ports whose connections the processes accept here. */
  gatedPorts: number[];
  /** TCP ports at which somebody listens: only there is a check answered. */
  listening: number[];
  /** Whose checks are answered at `checkPort`. */
  sources: string[];
  checkPort: number | null;
}

/** Without a policy. */
export const ALL_HELD: ConnectionPolicy = { acceptPorts: [], healthChecks: [] };

/** Of the namespace's queues; the filter has no other. */
export const QUEUE = 0;
/** Marks the filter's own packets; accept-gate.c has the same. */
const OWN_MARK = '0x5ea1';
/** Beyond what the kernel gives to outgoing connections. */
const CHECK_PORTS_FROM = 61_000;

export function connectionPlan(
  policy: ConnectionPolicy | undefined,
  { listeners }: Pick<Manifest, 'listeners'>,
): ConnectionPlan {
  const { acceptPorts, healthChecks } = policy ?? ALL_HELD;
  const tcp = listeners.filter(({ protocol }) => protocol === 'tcp').map(({ port }) => port);
  const listening = [...new Set(tcp)].sort((a, b) => a - b);
  let checkPort = CHECK_PORTS_FROM;
  while (listening.includes(checkPort)) checkPort += 1;
  return {
    gatedPorts: listening.filter((port) => acceptPorts.includes(port)),
    listening,
    sources: healthChecks,
    checkPort: healthChecks.length > 0 ? checkPort : null,
  };
}

/** Puts the rules in place of those that were there, in the network namespace of process `pid`. */
export async function ensureConnectionRules(
  pid: number,
  device: string,
  plan: ConnectionPlan,
): Promise<void> {
  if (plan.gatedPorts.length === 0 && plan.checkPort === null) return;
  await Promise.all(
    ([4, 6] as const).map((family) => {
      const program = family === 4 ? 'iptables-restore' : 'ip6tables-restore';
      const inside = ['nsenter', '--target', String(pid), '--net'] as const;
      return exec([...inside, program, '--wait'], { input: connectionRules(family, device, plan) });
    }),
  );
}

/** What `iptables-restore` reads. */
export function connectionRules(family: 4 | 6, device: string, plan: ConnectionPlan): string {
  const { gatedPorts, listening, sources, checkPort } = plan;
  const syn = `-i ${device} -p tcp --syn`;
  const queue = `-j NFQUEUE --queue-num ${QUEUE}`;
  const guarded = checkPort === null ? gatedPorts : [...gatedPorts, checkPort];
  const answer = `-o ${device} -p tcp --tcp-flags FIN,SYN,RST,ACK SYN,ACK -m mark ! --mark ${OWN_MARK}`;
  const tables = [
    '*mangle',
    ...guarded.map((port) => `-A INPUT ${syn} --dport ${port} ${queue}`),
    ...gatedPorts.map((port) => `-A OUTPUT ${answer} --sport ${port} ${queue}`),
    'COMMIT',
  ];
  const own = sources.filter((source) => source.includes(':') === (family === 6));
  if (checkPort !== null) {
    tables.push(
      '*nat',
      ':checks -',
      ...own.map((source) => `-A PREROUTING ${syn} -s ${source} -j checks`),
      ...listening.map((port) => `-A checks -p tcp --dport ${port} -j REDIRECT --to-ports ${checkPort}`),
      'COMMIT',
      '*filter',
      ...RESETS_JUDGED,
      // To all others the port is closed.
      `-A INPUT ${syn} --dport ${checkPort} -m conntrack ! --ctstate DNAT -j REJECT --reject-with tcp-reset`,
      'COMMIT',
    );
  }
  return `${tables.join('\n')}\n`;
}
