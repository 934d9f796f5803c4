/**
 * What really passed on a wire: tcpdump's view of one interface, parsed as it comes.
 * The demo and the end-to-end tests count resets and finishes and take response times from here, not from what a program believes.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { SeamlessError } from '../common/errors.ts';

export interface Packet {
  /** Seconds since the epoch, by the kernel. */
  at: number;
  protocol: 'tcp' | 'icmp' | 'arp' | 'other';
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
  /** tcpdump's letters for TCP (`S`, `F`, `R`, `P`, `.`), `request` or `reply` for ICMP echo and ARP. */
  flags: string;
  /** First sequence number (TCP) or echo sequence (ICMP); -1 where there is none. */
  sequence: number;
  /** Bytes of payload. */
  length: number;
  /** TCP timestamps (RFC 7323): its own, and the one that it echoes. */
  timestamp?: { value: number; echo: number };
}

export interface Capture {
  readonly packets: readonly Packet[];
  /**
   * Resolves with the first packet, seen already or to come, that `matches`; throws `TIMEOUT`.
   * @param from index into `packets` before which nothing counts
   */
  waitFor(
    what: string,
    matches: (packet: Packet) => boolean,
    timeoutMs: number,
    from?: number,
  ): Promise<Packet>;
  stop(): Promise<void>;
}

/**
 * @param netns path of the network namespace, as under /run/netns
 * @param filter pcap-filter(7)
 */
export async function startCapture(netns: string, device: string, filter: string): Promise<Capture> {
  const tcpdump = ['tcpdump', '-i', device, '-n', '-l', '-tt', '-S', '--immediate-mode', '-s', '128', filter];
  const child = spawn('nsenter', [`--net=${netns}`, '--', ...tcpdump], { stdio: ['ignore', 'pipe', 'pipe'] });
  await listening(child);
  const packets: Packet[] = [];
  const watchers = new Set<(packet: Packet) => void>();
  const lines = createInterface({ input: child.stdout });
  lines.on('line', (line) => {
    const packet = parsePacket(line);
    if (!packet) return;
    packets.push(packet);
    for (const watch of watchers) watch(packet);
  });
  return {
    packets,
    waitFor: (what, matches, timeoutMs, from = 0) => {
      const seen = packets.slice(from).find(matches);
      if (seen) return Promise.resolve(seen);
      return new Promise((resolve, reject) => {
        const watch = (packet: Packet) => {
          if (!matches(packet)) return;
          done();
          resolve(packet);
        };
        const timer = setTimeout(() => {
          done();
          reject(
            new SeamlessError('TIMEOUT', `Expected ${what} on ${device} within ${timeoutMs} ms, saw none`),
          );
        }, timeoutMs);
        const done = () => {
          clearTimeout(timer);
          watchers.delete(watch);
        };
        watchers.add(watch);
      });
    },
    stop: async () => {
      if (child.exitCode !== null) return;
      const closed = once(child, 'close');
      child.kill('SIGINT');
      await closed;
    },
  };
}

const TCP =
  /^(\d+\.\d+) IP6? (\S+)\.(\d+) > (\S+)\.(\d+): Flags \[([^\]]*)\](?:, cksum [^,]*)?(?:, seq (\d+)(?::\d+)?)?.*length (\d+)/;
const ICMP = /^(\d+\.\d+) IP6? (\S+) > (\S+): ICMP6?,? echo (request|reply),.* seq (\d+), length (\d+)/;
const ARP =
  /^(\d+\.\d+) ARP, (Request|Reply) (?:who-has (\S+) (?:\([^)]*\) )?tell ([^,\s]+)|(\S+) is-at \S+)/;

/** One line of `tcpdump -n -tt -S`; `null` for what is none of TCP, ICMP echo, ARP. */
export function parsePacket(line: string): Packet | null {
  const tcp = TCP.exec(line);
  if (tcp) {
    const [, at, source = '', sourcePort, destination = '', destinationPort, flags = '', sequence, length] =
      tcp;
    return {
      at: Number(at),
      protocol: 'tcp',
      source,
      destination,
      sourcePort: Number(sourcePort),
      destinationPort: Number(destinationPort),
      flags,
      sequence: sequence === undefined ? -1 : Number(sequence),
      length: Number(length),
      ...timestampOf(line),
    };
  }
  const ports = { sourcePort: 0, destinationPort: 0 };
  const icmp = ICMP.exec(line);
  if (icmp) {
    const [, at, source = '', destination = '', flags = '', sequence, length] = icmp;
    const numbers = { sequence: Number(sequence), length: Number(length) };
    return { at: Number(at), protocol: 'icmp', source, destination, ...ports, flags, ...numbers };
  }
  const arp = ARP.exec(line);
  if (arp) {
    const [, at, kind, wanted = '', asker = '', answered = ''] = arp;
    const isReply = kind === 'Reply';
    const [source, destination] = isReply ? [answered, ''] : [asker, wanted];
    const flags = isReply ? 'reply' : 'request';
    return { at: Number(at), protocol: 'arp', source, destination, ...ports, flags, sequence: -1, length: 0 };
  }
  return null;
}

function timestampOf(line: string): Pick<Packet, 'timestamp'> {
  const found = /TS val (\d+) ecr (\d+)/.exec(line);
  return found ? { timestamp: { value: Number(found[1]), echo: Number(found[2]) } } : {};
}

/** Resolves when the tcpdump in `child` captures; its standard error must be a pipe. */
export function listening(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      if (said.includes('listening on')) resolve();
    });
    child.once('error', reject);
    child.once('close', () =>
      reject(new SeamlessError('COMMAND_FAILED', `tcpdump did not start: ${said.trim()}`)),
    );
  });
}
