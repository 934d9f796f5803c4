/** The memory of one host, asked of the host itself: what is there, what its VMs have of it, who may go to swap or come back. */
import { SeamlessError } from '../../common/errors.ts';
import type { HostTransport } from '../host/transport.ts';
import { type HostMemory, ledgerOf, parseMeminfo, type VmMemory, wakeBytes, whyNotToSwap } from './ledger.ts';
import { fullPercent, textOrNull } from './stalls.ts';
import { readSwapMedium } from './swap-medium.ts';
import { WakeGate } from './wake-gate.ts';

/** What one of its VMs tells of itself. */
export interface MemoryUser {
  vm: string;
  /** Null when it can't be asked now. */
  memory(): Promise<VmMemory | null>;
}

export interface HostMemoryBook {
  join(user: MemoryUser): void;
  /** The ledger; throws `HOST_UNREACHABLE`. */
  report(): Promise<HostMemory>;
  /** Throws `HOST_MEMORY_SHORT` when so much more in swap would harm the host. */
  assertRoomInSwap(vm: string, toSwapBytes: number): Promise<void>;
  /** Waits for the VM's turn, never for good; gives the milliseconds. */
  awaitTurn(vm: string): Promise<number>;
  /** The VM is up, or stays off after all. */
  turnDone(vm: string): void;
}

/** The book of each host, opened when it is first asked for; hosts come and go. */
export function hostMemoryBooks(transportOf: (host: string) => HostTransport | undefined) {
  const books = new WeakMap<HostTransport, HostMemoryBook>();
  return (host: string): HostMemoryBook | undefined => {
    const transport = transportOf(host);
    if (!transport) return undefined;
    const book = books.get(transport) ?? hostMemoryBook(transport);
    books.set(transport, book);
    return book;
  };
}

export function hostMemoryBook(host: HostTransport): HostMemoryBook {
  const users = new Map<string, MemoryUser>();
  const meminfo = async () => parseMeminfo(await host.readFile('/proc/meminfo'));
  const gate = new WakeGate({ memory: meminfo });
  const present = async () => {
    const [memory, swap, pressure] = await Promise.all([
      meminfo(),
      readSwapMedium(host),
      textOrNull(host, '/proc/pressure/memory'),
    ]);
    const stalledPercent = pressure === null ? null : fullPercent(pressure);
    return { host: host.name, ...memory, swap, stalledPercent, waiting: gate.waiting };
  };
  return {
    join: (user) => void users.set(user.vm, user),
    async report() {
      const [now, ...vms] = await Promise.all([
        present(),
        ...[...users.values()].map(({ memory }) => memory().catch(() => null)),
      ]);
      return ledgerOf(
        now,
        vms.filter((vm) => vm !== null),
      );
    },
    async assertRoomInSwap(vm, toSwapBytes) {
      const why = whyNotToSwap({ ...(await present()), vm, toSwapBytes });
      if (why)
        throw new SeamlessError('HOST_MEMORY_SHORT', why, { details: { host: host.name, toSwapBytes } });
    },
    awaitTurn: (vm) =>
      gate.enter(vm, async () => {
        const memory = await users.get(vm)?.memory();
        return memory ? wakeBytes(memory) : 0;
      }),
    turnDone: (vm) => gate.done(vm),
  };
}
