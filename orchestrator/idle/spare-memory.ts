/**
 * Tells histories how much memory their hosts have to spare, where a policy wants some kept (`spareMemory`). Asked once a minute and
 * waited for by nobody; of a host that does not answer it is not known.
 */
import type { HostMemory } from '../memory/ledger.ts';
import type { VmHistory } from './history.ts';
import type { Policy } from './policy/policy.ts';

interface OnHost {
  readonly name: string;
  readonly host: string;
  readonly policy: Policy;
  readonly history: VmHistory;
}

export type AskHostMemory = (host: string) => Promise<Pick<HostMemory, 'availableBytes' | 'vms'>>;

const EVERY_MS = 60_000;

export class SpareMemory {
  readonly #ask: AskHostMemory;
  readonly #askedAt = new Map<string, number>();

  constructor(ask: AskHostMemory) {
    this.#ask = ask;
  }

  refresh(vms: Iterable<OnHost>): void {
    const now = performance.now();
    const due = new Map<string, OnHost[]>();
    for (const vm of vms) {
      if (vm.policy.spareMemoryBytes === 0) continue;
      if (now - (this.#askedAt.get(vm.host) ?? Number.NEGATIVE_INFINITY) < EVERY_MS) continue;
      const some = due.get(vm.host);
      if (some) some.push(vm);
      else due.set(vm.host, [vm]);
    }
    for (const [host, some] of due) {
      this.#askedAt.set(host, now);
      this.#ask(host).then(
        ({ availableBytes, vms: known }) => {
          const freed = new Map(known.map(({ vm, freedBytes }) => [vm, freedBytes]));
          for (const { name, history } of some) {
            history.hostFreeBytes = availableBytes;
            history.memoryBytes = freed.get(name) ?? null;
          }
        },
        () => {
          for (const { history } of some) history.hostFreeBytes = null;
        },
      );
    }
  }
}
