/**
 * What a cycle looked like from outside: computed from the captures at the client and at the VM's tap, never from the service's own word.
 */
import type { Capture, Packet } from './capture.ts';

export interface WireFacts {
  resets: number;
  fins: number;
  /** Connections opened beyond the first. */
  reconnects: number;
}

/** What reached the client on one of its connections. `port` is the client's local port. */
export function wireFacts(packets: readonly Packet[], vm: string, port: number): WireFacts {
  const fromVm = packets.filter((packet) => packet.source === vm && packet.destinationPort === port);
  const handshakes = new Set(
    fromVm.filter((packet) => packet.flags.startsWith('S')).map((packet) => packet.sequence),
  );
  return {
    resets: fromVm.filter((packet) => packet.flags.includes('R')).length,
    fins: fromVm.filter((packet) => packet.flags.includes('F')).length,
    reconnects: Math.max(0, handshakes.size - 1),
  };
}

export interface QuietFacts {
  pingsSent: number;
  pingsAnswered: number;
  arpsAnswered: number;
  keepalivesAnswered: number;
}

/** What was answered between two moments (seconds since the epoch), while the VM was parked. */
export function quietFacts(
  packets: readonly Packet[],
  vm: string,
  keepalivePort: number,
  from: number,
  to: number,
): QuietFacts {
  const within = packets.filter((packet) => packet.at >= from && packet.at <= to);
  const icmp = packets.filter((packet) => packet.protocol === 'icmp');
  const answered = new Set(
    icmp.filter((packet) => packet.flags === 'reply').map((packet) => packet.sequence),
  );
  const pings = within.filter(
    (packet) => packet.protocol === 'icmp' && packet.flags === 'request' && packet.destination === vm,
  );
  const fromVm = within.filter((packet) => packet.source === vm);
  return {
    pingsSent: pings.length,
    pingsAnswered: pings.filter((packet) => answered.has(packet.sequence)).length,
    arpsAnswered: fromVm.filter((packet) => packet.protocol === 'arp' && packet.flags === 'reply').length,
    keepalivesAnswered: fromVm.filter(
      (packet) => packet.destinationPort === keepalivePort && packet.length > 0,
    ).length,
  };
}

/**
 * The time a client waited, in ms: from its packet `sent` to the first packet on the same connection that left the VM
 * itself (seen at its tap) after it, taken where it reached the client. Answers that the sink gave meanwhile don't count.
 */
export async function responseMs(
  client: Capture,
  tap: Capture,
  sent: Packet,
  timeoutMs: number,
): Promise<number> {
  const reverse = (packet: Packet) =>
    packet.at > sent.at &&
    packet.sourcePort === sent.destinationPort &&
    packet.destinationPort === sent.sourcePort &&
    packet.source === sent.destination &&
    (packet.length > 0 || packet.flags.startsWith('S'));
  const left = await tap.waitFor(`the VM’s reply to port ${sent.sourcePort}`, reverse, timeoutMs);
  const same = (packet: Packet) =>
    reverse(packet) && packet.sequence === left.sequence && packet.at >= left.at - 0.001;
  const arrived = await client.waitFor('that reply at the client', same, timeoutMs);
  return (arrived.at - sent.at) * 1000;
}
