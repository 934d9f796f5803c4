/**
 * How new connections are met in a sink: which ports' handshakes go through the filter's accept gate, and where TCP connect
 * checks of listed sources are answered. As netfilter rules of the sink's namespace; docs/activity.md says what a client sees.
 *
 * Both end in the syscall filter: it reads the queue, and it listens at the check port. While it is not there the queue
 * drops, so that nobody gets an answer which the VM might not stand by.
 */
import type { Manifest } from '../criu/manifest.ts';
import type { ConnectionPolicy } from './api.ts';
import { setPacketRules, TABLE } from './sandbox/packet-rules.ts';
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
  await setPacketRules(pid, {
    nft: connectionChains(device, plan),
    iptables: (family) => connectionRules(family, device, plan),
    besideOthers: false,
  });
}

/** What `nft` reads; the resets have chains of their own, which stay. */
export function connectionChains(device: string, plan: ConnectionPlan): string[] {
  const { gatedPorts, listening, sources, checkPort } = plan;
  const syn = `iifname "${device}" tcp flags & (fin | syn | rst | ack) == syn`;
  const answer = `oifname "${device}" tcp flags & (fin | syn | rst | ack) == (syn | ack) meta mark != ${OWN_MARK}`;
  const queue = `queue num ${QUEUE}`;
  const guarded = checkPort === null ? gatedPorts : [...gatedPorts, checkPort];
  const chain = (name: string, place: string, rules: readonly string[]) => [
    `add chain ${TABLE} ${name}${place && ` { type ${place}; }`}`,
    `flush chain ${TABLE} ${name}`,
    ...rules.map((rule) => `add rule ${TABLE} ${name} ${rule}`),
  ];
  const gates = [
    `add table ${TABLE}`,
    ...chain(
      'entering',
      'filter hook input priority mangle',
      guarded.map((port) => `${syn} tcp dport ${port} ${queue}`),
    ),
    ...chain(
      'answering',
      'filter hook output priority mangle',
      gatedPorts.map((port) => `${answer} tcp sport ${port} ${queue}`),
    ),
  ];
  if (checkPort === null) return gates;
  const from = (source: string) => `${source.includes(':') ? 'ip6' : 'ip'} saddr ${source}`;
  return [
    ...gates,
    ...chain(
      'checks',
      '',
      listening.map((port) => `tcp dport ${port} redirect to :${checkPort}`),
    ),
    ...chain(
      'translating',
      'nat hook prerouting priority dstnat',
      sources.map((source) => `${syn} ${from(source)} jump checks`),
    ),
    // To all others the port is closed.
    ...chain('closing', 'filter hook input priority filter', [
      `${syn} tcp dport ${checkPort} ct status & dnat != dnat reject with tcp reset`,
    ]),
  ];
}

/** What `iptables-restore` reads. */
export function connectionRules(family: 4 | 6, device: string, plan: ConnectionPlan): string[] {
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
  return tables;
}
