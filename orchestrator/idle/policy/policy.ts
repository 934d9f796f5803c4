/** What an operator decides about a VM. Each setting keeps the line of the policy file that made it, for `seamless explain`. */
import type { Meter } from '../signals.ts';

export type SynPolicy = 'hold' | 'accept';

/** The settings of one VM. */
export interface Settings {
  /** `always-allow`: the guest's own load does not keep it awake; people still do, and so does doubt. */
  park: 'auto' | 'never' | 'always-allow';
  /** How long a VM must be quiet. */
  windowMs: number;
  /** Of the levels (cpu, disk, load, dirty) this percentile is judged. */
  percentile: number;
  /** In the units of signals.ts. */
  thresholds: Record<Meter, number>;
  switchOff: 'ram' | 'disk' | 'swap';
  /** What becomes of a connection request to a port of a parked VM: `tcp/80` → hold (wakes the VM) or accept (by the sink). */
  syn: Record<string, SynPolicy>;
  /** Programs that are gateway processes besides those that are found. */
  gateways: string[];
  /** Addresses or networks whose traffic is trivial. */
  healthChecks: string[];
  /** First match by the timer's name counts. */
  timers: { pattern: string; action: 'wake' | 'ignore' }[];
  /** How long before a timer or an expected use the VM is woken. */
  leadMs: number;
  /** A park shorter than this does not pay. */
  minGapMs: number;
  /** `use`: what is learned keeps a VM awake over short gaps and ends unused wakes sooner. `wake`: and wakes it ahead of use. */
  forecast: 'ignore' | 'use' | 'wake';
  /** 0 to 1: from which chance on a forecast is believed. */
  confidence: number;
}

/** A setting that can be named: `window`, `thresholds.cpu`. */
export type PolicyKey = Exclude<keyof Settings, 'thresholds'> | `thresholds.${Meter}`;

export interface Policy extends Readonly<Settings> {
  /** Free memory to keep on the VM's host, for wakes. */
  readonly spareMemoryBytes: number;
  /** The file's name and the line of each setting in it; a setting that is not there is built in. */
  readonly file: string | null;
  readonly lines: Readonly<Partial<Record<PolicyKey, number>>>;
}

export const BUILT_IN: Policy = Object.freeze({
  park: 'auto',
  windowMs: 15 * 60_000,
  percentile: 95,
  thresholds: Object.freeze({
    cpu: 5,
    network: 64,
    disk: 64 * 1024,
    sessions: 0,
    jobs: 0,
    load: 3,
    dirty: 1024 * 1024,
  }),
  switchOff: 'swap',
  syn: Object.freeze({}),
  gateways: [],
  healthChecks: [],
  timers: [{ pattern: '*', action: 'wake' as const }],
  leadMs: 60_000,
  minGapMs: 10 * 60_000,
  forecast: 'use',
  confidence: 0.7,
  spareMemoryBytes: 0,
  file: null,
  lines: Object.freeze({}),
}) satisfies Policy;

/** `policy.yaml:12`, or `built in`. */
export function placeOf(policy: Policy, key: PolicyKey): string {
  const line = policy.lines[key];
  return line === undefined ? 'built in' : `${policy.file ?? 'policy'}:${line}`;
}
