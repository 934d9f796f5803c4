/** What came for the processes and nobody has taken, from their stop until the VM has it. Nothing of it is worth failing a dump for. */
import type { Log } from '../common/log.ts';
import type { Manifest, NetworkInterface } from '../criu/manifest.ts';
import { type ReturnedPacket, returnPackets, unreadDatagrams } from './returned.ts';
import type { ProcessIdentity } from './sandbox/process.ts';

export class Unclaimed {
  readonly #filterBinary: string;
  readonly #cgroup: () => string;
  readonly #log: Log;

  /** @param cgroup of the sink's processes */
  constructor(filterBinary: string, cgroup: () => string, log: Log) {
    this.#filterBinary = filterBinary;
    this.#cgroup = cgroup;
    this.#log = log;
  }

  /** Nothing may reach the sink any more, and the processes have stopped. @param requests connection requests that the filter has kept */
  async collect(
    { listeners }: Pick<Manifest, 'listeners'>,
    requests: readonly ReturnedPacket[],
  ): Promise<readonly ReturnedPacket[]> {
    if (!listeners.some(({ protocol }) => protocol === 'udp')) return requests;
    const datagrams = await unreadDatagrams(this.#filterBinary, this.#cgroup()).catch((error: unknown) => {
      this.#log.warn('sink.unread', { error });
      return [];
    });
    return [...requests, ...datagrams];
  }

  /** Sends them to the VM, once the processes are in an image. @param device of the sink; without one nothing came */
  async giveBack(
    init: ProcessIdentity,
    device: NetworkInterface | undefined,
    packets: readonly ReturnedPacket[],
  ): Promise<void> {
    if (!device || packets.length === 0) return;
    this.#log.info('sink.returned', { packets: packets.length });
    await returnPackets(init, device, packets).catch((error: unknown) =>
      this.#log.warn('sink.return', { error }),
    );
  }
}
