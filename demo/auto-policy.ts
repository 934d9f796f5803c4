/** The policy by which `demo --auto` lets the service park by itself: as in production, but with windows of seconds. */

/** Seconds, but `sampleMs`. */
export interface Pace {
  /** How long the VM must be quiet; the grace after a wake is twice as long. */
  window: number;
  /** How long before a timer the VM wakes, and how short a park does not pay. */
  lead: number;
  minGap: number;
  /** How long the VM stays parked under probes. */
  probed: number;
  /** What a park, and its beginning at the next decision, may take besides. */
  parking: number;
  sampleMs: number;
}

/** Under emulation a park takes 10 s and more, a wake some seconds. */
export const EMULATED: Pace = { window: 30, lead: 30, minGap: 5, probed: 15, parking: 50, sampleMs: 5000 };
export const NATIVE: Pace = { window: 7, lead: 5, minGap: 1, probed: 5, parking: 9, sampleMs: 1000 };

/** A client's second address, for its health checks. */
export const CHECKER = '10.77.0.99';

/**
 * The levels leave room for what emulation makes of an idle guest. An idle `ssh -N` with a keep-alive each second, as the demo's, is 104 bytes/s;
 * the built-in 64 bytes/s are for clients that send one every few seconds.
 */
export function policyText({ window, lead, minGap }: Pace): string {
  return `version: 1
defaults:
  window: ${window}s
  lead: ${lead}s
  minGap: ${minGap}s
  forecast: ignore
  healthChecks: [${CHECKER}]
  thresholds:
    network: 400 B/s
    cpu: 30%
    load: 30%
    disk: 1 MiB/s
    dirty: 16 MiB/s
`;
}
