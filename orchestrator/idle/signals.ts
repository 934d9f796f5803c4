/**
 * What tells whether a VM is in use. Seven meters are sampled every ten seconds; two more signals look ahead.
 *
 * | signal   | unit                                         | busy when                                  |
 * |----------|----------------------------------------------|--------------------------------------------|
 * | cpu      | % of all the guest's CPUs                    | above for more than (100 − percentile) %   |
 * | network  | payload bytes/s, without trivial traffic     | above once in the window                   |
 * | disk     | bytes/s                                      | as cpu                                     |
 * | sessions | sessions in which somebody typed             | above once in the window                   |
 * | jobs     | foreground jobs and scheduled work that runs | above now                                  |
 * | load     | % of one CPU, by other than gateway processes| as cpu                                     |
 * | dirty    | bytes/s of memory that is written to         | as cpu                                     |
 * | timers   | seconds to the guest's next timer            | below                                      |
 * | lease    | seconds to the end of the DHCP lease         | below                                      |
 */

/** The columns of a history, in this order. */
export const METERS = ['cpu', 'network', 'disk', 'sessions', 'jobs', 'load', 'dirty'] as const;
export type Meter = (typeof METERS)[number];
export type SignalName = Meter | 'timers' | 'lease';

export type SignalState = 'busy' | 'quiet' | 'unknown';

export interface Signal {
  name: SignalName;
  state: SignalState;
  /** The value that was judged, in the signal's unit; null when it is not known or there is none. */
  value: number | null;
  threshold: number;
  /** Milliseconds since this was last known; null when it never was. */
  ageMs: number | null;
}

/**
 * How a meter is judged. `trace`: somebody leaves it, so once in the window is enough; a person who reads for ten minutes
 * is still there. `level`: the guest's own noise, of which a percentile is let pass. `now`: only whether it is so now.
 */
export const JUDGED_BY: Record<Meter, 'trace' | 'level' | 'now'> = {
  cpu: 'level',
  network: 'trace',
  disk: 'level',
  sessions: 'trace',
  jobs: 'now',
  load: 'level',
  dirty: 'level',
};

/** Something in the guest that will happen at a known time. */
export interface Timer {
  name: string;
  atMs: number;
}
