/** A decision, for programs (`seamless explain VM --json`) and for people. Pure. */
import type { Decision } from './decide.ts';
import { type Policy, placeOf } from './policy/policy.ts';
import { formatBytes, formatSeconds } from './policy/units.ts';
import type { Signal, SignalName } from './signals.ts';

/** The keys are an interface. Ages in seconds, times in ISO 8601. */
export interface Explanation {
  vm: string;
  state: string;
  verdict: Decision['verdict'];
  /** The rule, and the line of the policy file that made it: `busy (policy.yaml:7, thresholds.network)`. */
  rule: string;
  signals: {
    name: SignalName;
    state: Signal['state'];
    value: number | null;
    threshold: number;
    age: number | null;
  }[];
  forecast: { nextUse: string | null; confidence: number };
  nextTimer: string | null;
}

export function explain(vm: string, state: string, decision: Decision, policy: Policy): Explanation {
  const { verdict, signals, forecast, nextTimer } = decision;
  return {
    vm,
    state,
    verdict,
    rule: ruleOf(decision, policy),
    signals: signals.map(({ name, state: is, value, threshold, ageMs }) => ({
      name,
      state: is,
      value: value === null ? null : rounded(value),
      threshold,
      age: ageMs === null ? null : rounded(ageMs / 1000),
    })),
    forecast: {
      nextUse: forecast.nextUse === null ? null : iso(forecast.nextUse),
      confidence: rounded(forecast.confidence),
    },
    nextTimer: nextTimer && iso(nextTimer.atMs),
  };
}

/** What is decided and why, a line for each signal, and what is expected. */
export function explanationText(decision: Decision, policy: Policy, now: number): string {
  const { signals, forecast, nextTimer } = decision;
  const percent = Math.round(forecast.confidence * 100);
  return [
    `${SAID[decision.verdict]}: ${REASON[decision.rule](decision)} (${ruleOf(decision, policy)})`,
    ...signals.map((signal) => `  ${signal.state.padEnd(8)}${signal.name.padEnd(9)} ${measured(signal)}`),
    forecast.nextUse === null
      ? `  no use is expected in the coming week (${percent} %)`
      : `  next use expected in ${formatSeconds((forecast.nextUse - now) / 1000)} (${percent} %)`,
    nextTimer
      ? `  next timer ${nextTimer.name} in ${formatSeconds((nextTimer.atMs - now) / 1000)}`
      : '  no timer is honoured',
  ].join('\n');
}

const SAID: Record<Decision['verdict'], string> = {
  park: 'park',
  wake: 'wake',
  abort: 'take the park back',
  keep: 'leave as it is',
};

const REASON: Record<Decision['rule'], (decision: Decision) => string> = {
  never: () => 'the policy says never to park it',
  busy: ({ signal }) => `${signal} is busy`,
  unknown: ({ signal }) => `nothing is known of ${signal}, which counts as busy`,
  grace: () => 'it woke a short time ago',
  timer: ({ nextTimer }) => `its timer ${nextTimer?.name ?? ''} is due`,
  lease: () => 'its DHCP lease ends',
  forecast: () => 'its next use is expected too soon for a park to pay',
  idle: () => 'nobody uses it',
  parked: () => 'nothing is due',
  moving: () => 'it is on its way',
  stuck: () => 'it is stuck',
};

function ruleOf({ rule, setting }: Decision, policy: Policy): string {
  return setting === null ? rule : `${rule} (${placeOf(policy, setting)}, ${setting})`;
}

function measured({ name, value, threshold, ageMs }: Signal): string {
  const show = UNIT[name];
  const age = ageMs === null ? 'never known' : `${formatSeconds(ageMs / 1000)} old`;
  if (value === null) return name === 'timers' || name === 'lease' ? `none, ${age}` : age;
  const limit = name === 'timers' || name === 'lease' ? 'not below' : 'not above';
  return `${show(value)}, ${limit} ${show(threshold)}, ${age}`;
}

const UNIT: Record<SignalName, (value: number) => string> = {
  cpu: (value) => `${rounded(value)} %`,
  network: (value) => `${formatBytes(rounded(value))}/s`,
  disk: (value) => `${formatBytes(rounded(value))}/s`,
  sessions: String,
  jobs: String,
  load: (value) => `${rounded(value)} %`,
  dirty: (value) => `${formatBytes(rounded(value))}/s`,
  timers: formatSeconds,
  lease: formatSeconds,
};

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
