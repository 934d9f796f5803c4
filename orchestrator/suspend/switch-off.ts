/** How a parked VM is switched off and on again. Both directions ensure; both may be called again after a crash. */

export type SwitchOffMethod = 'swap' | 'ram' | 'disk' | 'nova';

export interface SwitchOffResult {
  /** False when `wanted` aborted it: the VM runs, with all its memory. */
  off: boolean;
  method: SwitchOffMethod;
  /** Resident memory of the VM's process before and after, in bytes; not there when the hypervisor is somebody else's. */
  residentBeforeBytes?: number;
  residentAfterBytes?: number;
}

export interface SwitchOff {
  /** Throws `HOST_MEMORY_SHORT` when switching it off now would harm its host. Asked before anything is moved. */
  admit?(signal: AbortSignal): Promise<void>;
  /**
   * @param imageId the VM's own image of its gateway processes, for the dummy restore
   * @param imageBytes what they will need again when they come back
   */
  switchOff(imageId: string, wanted: AbortSignal, imageBytes?: number): Promise<SwitchOffResult>;
  /** The VM runs when this resolves; its memory comes back on demand, or is back. */
  switchOn(): Promise<void>;
  /** The wake is over and the processes run again: the time to learn what it used, and to tidy up. Never fails. */
  woken(): Promise<void>;
}
