/**
 * The three ways of switching a VM off behind one: which of them is asked anew at each park, and at a wake the world says which
 * it was: a claim on its host, or a QEMU that is paused, with or without a balloon.
 */
import type { Log } from '../../common/log.ts';
import type { Config, VmConfig } from '../config.ts';
import type { HostMemoryBook } from '../memory/host-memory.ts';
import type { SuspendToDisk } from './suspend-to-disk.ts';
import type { SwitchOff, SwitchOffMethod } from './switch-off.ts';

/** Where the hypervisor is ours. */
type OwnMethod = Exclude<SwitchOffMethod, 'nova'>;

export interface SwitchOffMethods {
  ram: SwitchOff;
  swap: SwitchOff;
  /** Null when the configuration does not say how the VM's QEMU is started. */
  disk: SuspendToDisk | null;
}

/** How the VM is to be switched off; a policy's word, if there is one, comes before the configuration's. */
export function switchOffFor(
  { switchOff = 'swap' }: Pick<Config, 'switchOff'>,
  { suspendToDisk }: Pick<VmConfig, 'suspendToDisk'>,
  policy?: OwnMethod,
): OwnMethod {
  const wanted = policy ?? (switchOff === 'nova' ? 'swap' : switchOff);
  return wanted === 'disk' && !suspendToDisk ? 'swap' : wanted;
}

export interface SwitchOffByDeps {
  vm: string;
  methods: SwitchOffMethods;
  /** Asked at each park. */
  choose(): OwnMethod;
  /** Of its host. */
  memory: Pick<HostMemoryBook, 'awaitTurn' | 'turnDone'>;
  log: Log;
}

export function switchOffBy(deps: SwitchOffByDeps): SwitchOff & { away(): Promise<boolean> } {
  const { vm, methods, choose, memory, log } = deps;
  const { ram, swap, disk } = methods;
  const away = async () => disk !== null && (await disk.away());
  /** By which the VM sleeps, or slept last; after a start of this service swap, whose way back serves ram too. */
  let last: OwnMethod = 'swap';
  return {
    away,
    async admit(signal) {
      await methods[choose()]?.admit?.(signal);
    },
    async switchOff(imageId, wanted, imageBytes) {
      memory.turnDone(vm);
      // A call before this one may have saved it already.
      const method = (await away()) ? 'disk' : choose();
      last = method === 'disk' && !disk ? 'swap' : method;
      log.info('switchOff', { method: last });
      return (methods[last] ?? swap).switchOff(imageId, wanted, imageBytes);
    },
    async switchOn() {
      const ms = await memory.awaitTurn(vm);
      if (ms > 0) log.info('switchOn.waited', { ms: Math.round(ms) });
      try {
        if (disk && (await disk.away())) {
          last = 'disk';
          await disk.switchOn();
        } else {
          await (last === 'ram' ? ram : swap).switchOn();
        }
      } catch (thrown) {
        memory.turnDone(vm);
        throw thrown;
      }
    },
    async woken() {
      memory.turnDone(vm);
      await (methods[last] ?? swap).woken();
    },
  };
}
