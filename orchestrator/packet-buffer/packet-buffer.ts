/**
 * One VM's packet buffer: packets for the VM are held on its host while nobody may receive them.
 *
 *   arm ──► hold ── release ──► (VM receives) ── disarm
 *            │ ▲
 *     divert │ │ at the end of a park: what was held is for the sink now
 *            └─┘ parked: only held SYNs arrive, and stay
 *
 * The daemon (packet-buffer.c) has a session of its own and outlives this process; after a crash `arm` or `status`
 * finds it again by its socket, with all that it holds. Every method means *ensure* and may be repeated.
 */
import { SeamlessError } from '../../common/errors.ts';
import type { HostTransport } from '../host/transport.ts';
import type { Held, HeldPacket, Released } from '../sagas/ports.ts';
import { ControlLine } from './control-line.ts';
import { ensureHoldRules, removeHoldRules } from './hold-rules.ts';

export interface PacketBufferOptions {
  host: HostTransport;
  /** Path of the `packet-buffer` program on the host. */
  program: string;
  vm: string;
  mac: string;
  /** The VM's tap, and the Linux bridge that it is a port of. */
  tap: string;
  bridge: string;
  /** The Linux bridge's way to br-int (`qvb-…`): diverted packets leave by it. */
  uplink: string;
  /** The NFQUEUE number, this VM's alone in the host's network namespace. */
  queue: number;
  /** Where the socket and the log file go; a directory that exists. */
  runDir: string;
  /** Services whose SYNs stay held when the rest is diverted. */
  heldTcpPorts: readonly number[];
  /** Addresses and prefixes whose SYNs are diverted with the rest. */
  healthChecks?: readonly string[];
  maxPackets?: number;
}

export interface BufferStatus {
  mode: 'hold' | 'pass' | 'divert';
  /** Packets and bytes held. */
  held: number;
  bytes: number;
  /** Since the daemon's start: dropped for want of room, SYN retransmissions dropped on purpose, let go, sent elsewhere. */
  lost: number;
  folded: number;
  released: number;
  diverted: number;
  /** Age of the oldest packet held, in milliseconds; 0 when none is. */
  oldestMs: number;
  /** Of the packets held: connection requests, and which came first (see `Held`). */
  connections: number;
  first: HeldPacket | null;
}

const COMMAND_TIMEOUT_MS = 5000;
const DIVERT_TIMEOUT_MS = 20_000;
/** A tap drops what exceeds its ring (1000 packets), and a release comes all at once. */
const TAP_RING_PACKETS = 8192;

/** Where the buffer of `vm` listens. */
export function bufferSocket(runDir: string, vm: string): string {
  return `${runDir}/packet-buffer-${vm}.sock`;
}

export class PacketBuffer {
  readonly #options: PacketBufferOptions;
  readonly #control: ControlLine;

  constructor(options: PacketBufferOptions) {
    this.#options = options;
    this.#control = new ControlLine(options.host, this.socketPath);
  }

  get socketPath(): string {
    return bufferSocket(this.#options.runDir, this.#options.vm);
  }

  /** From now on every packet for the VM is held. Starts the daemon unless it answers. */
  async arm(): Promise<void> {
    const { host, vm, uplink, queue } = this.#options;
    await Promise.all([this.#ensureDaemon(), this.#prepareBridge()]);
    await this.hold();
    await ensureHoldRules(host, { vm, uplink, queue });
  }

  /** Holds again after a release or a divert; a round trip to the daemon. */
  async hold(): Promise<void> {
    await this.#command('hold');
  }

  /** Lets all that is held go on to the VM, in order, and everything after it. */
  async release(): Promise<Released> {
    const { released, connections, oldestMs } = await this.#command('release');
    return { packets: Number(released), connections: Number(connections), oldestMs: Number(oldestMs) };
  }

  /**
   * Sends all that is held back into br-int, in order, for the flows to take to the sink; SYNs to held ports stay.
   * For a quarter of a second stragglers go the same way; then it holds again. So flows that point at the VM may
   * follow only after `hold()`, or the packets would go round.
   */
  async divert(): Promise<{ diverted: number; held: Held }> {
    const { uplink, mac, heldTcpPorts, healthChecks = [] } = this.#options;
    const keep =
      (heldTcpPorts.length > 0 ? ` keep=${heldTcpPorts.join(',')}` : '') +
      (healthChecks.length > 0 ? ` except=${healthChecks.join(',')}` : '');
    const answer = await this.#command(`divert iface=${uplink} mac=${mac}${keep}`, DIVERT_TIMEOUT_MS);
    return { diverted: Number(answer.diverted), held: heldOf(answer) };
  }

  /** What waits now. Throws `HOST_UNREACHABLE` when no daemon runs. */
  async held(): Promise<Held> {
    return heldOf(await this.#command('status'));
  }

  /** Throws `HOST_UNREACHABLE` when no daemon runs. */
  async status(): Promise<BufferStatus> {
    return (await this.#command('status')) as unknown as BufferStatus;
  }

  /**
   * Takes the rules out, gives the bridge port its flags back and ends the daemon. Refused with
   * `ILLEGAL_TRANSITION` while packets are held, unless `force`: they are lost then.
   */
  async disarm(options: { force?: boolean } = {}): Promise<void> {
    const { host, vm } = this.#options;
    const status = await this.status().catch(() => undefined);
    if (status && status.held > 0 && !options.force) {
      throw new SeamlessError(
        'ILLEGAL_TRANSITION',
        `expected the packet buffer of ${vm} to be empty, got ${status.held} packets; release or divert them first`,
        { details: { ...status } },
      );
    }
    await removeHoldRules(host, vm);
    await this.#restoreBridge();
    if (status) await this.#command(options.force ? 'quit force' : 'quit');
    this.close();
  }

  /** Lets go of the connection; daemon and rules stay. */
  close(): void {
    this.#control.close();
  }

  async #ensureDaemon(): Promise<void> {
    const { host, program, queue, runDir, vm, maxPackets = 65535 } = this.#options;
    if (await this.status().catch(() => undefined)) return;
    const logFile = `${runDir}/packet-buffer-${vm}.log`;
    await host.startDaemon(
      [program, '--queue', `${queue}`, '--control', this.socketPath, '--max-packets', `${maxPackets}`],
      { logFile },
    );
    await this.#control.ready(COMMAND_TIMEOUT_MS).catch(async (cause) => {
      const log = await host.readFile(logFile).catch(() => '');
      throw new SeamlessError(
        'HOST_UNREACHABLE',
        `the packet buffer of ${vm} did not start: ${log.slice(-500)}`,
        {
          cause,
        },
      );
    });
  }

  /**
   * Netfilter must see bridged packets, and broadcasts must not fill a paused VM's queue. The address is pinned to the
   * tap: a bridge that learns would find it at its uplink, where the sink's broadcasts come from, and then drop what
   * is for the VM.
   */
  async #prepareBridge(): Promise<void> {
    const { host, tap, bridge, mac } = this.#options;
    const netfilter = ['nf_call_iptables', '1', 'nf_call_ip6tables', '1'];
    await Promise.all([
      host.run(['ip', 'link', 'set', 'dev', bridge, 'type', 'bridge', ...netfilter]),
      host.run(['ip', 'link', 'set', 'dev', tap, 'txqueuelen', `${TAP_RING_PACKETS}`]),
      host.run(['bridge', 'link', 'set', 'dev', tap, 'bcast_flood', 'off', 'mcast_flood', 'off']),
      host.run(['bridge', 'fdb', 'replace', mac, 'dev', tap, 'master', 'static']),
    ]);
  }

  async #restoreBridge(): Promise<void> {
    const { host, tap, mac } = this.#options;
    try {
      await host.run(['bridge', 'link', 'set', 'dev', tap, 'bcast_flood', 'on', 'mcast_flood', 'on']);
    } catch (error) {
      // A tap goes with its QEMU: then there is nothing to restore.
      const there = await host.run(['ip', 'link', 'show', 'dev', tap]).catch(() => undefined);
      if (there) throw error;
    }
    // Learned again at once: the VM's own frames come in by the tap.
    await host.run(['bridge', 'fdb', 'del', mac, 'dev', tap, 'master']).catch(() => {});
  }

  #command(command: string, timeoutMs = COMMAND_TIMEOUT_MS): Promise<Record<string, unknown>> {
    return this.#control.request(command, timeoutMs);
  }
}

function heldOf({ held, connections, first }: Record<string, unknown>): Held {
  return {
    packets: Number(held),
    connections: Number(connections),
    first: (first as HeldPacket | null) ?? null,
  };
}
