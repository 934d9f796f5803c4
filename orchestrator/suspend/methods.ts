/**
 * The three ways of switching a VM off behind one: which of them is asked anew at each park, and at a wake the world says which
 * it was: a claim on its host, or a QEMU that is paused, with or without a balloon.
 */
import type { Log } from '../../common/log.ts';
import type { Config, VmConfig } from '../config.ts';
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

/** @param choose asked at each park */
export function switchOffBy(
  methods: SwitchOffMethods,
  choose: () => OwnMethod,
  log: Log,
): SwitchOff & { away(): Promise<boolean> } {
  const { ram, swap, disk } = methods;
  const away = async () => disk !== null && (await disk.away());
  /** By which the VM sleeps, or slept last; after a start of this service swap, whose way back serves ram too. */
  let last: OwnMethod = 'swap';
  return {
    away,
    async switchOff(imageId, wanted) {
      // A call before this one may have saved it already.
      const method = (await away()) ? 'disk' : choose();
      last = method === 'disk' && !disk ? 'swap' : method;
      log.info('switchOff', { method: last });
      return (methods[last] ?? swap).switchOff(imageId, wanted);
    },
    async switchOn() {
      if (disk && (await disk.away())) {
        last = 'disk';
        return disk.switchOn();
      }
      // A QEMU that was ended and has not come back is the disk's to explain.
      return (last === 'ram' ? ram : swap).switchOn();
    },
    woken: async () => (methods[last] ?? swap).woken(),
  };
}
