/** A decision, for programs (`seamless explain VM --json`) and for people. Pure. */
import type { ErrorBody } from '../../common/errors.ts';
import type { Decision } from './decide.ts';
import type { VmHistory } from './history.ts';
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
  signals: ExplainedSignal[];
  forecast: { nextUse: string | null; confidence: number };
  nextTimer: string | null;
  /** The rule in words. */
  reason: string;
  nextTimerName: string | null;
  /** A park that could not be, and from when on another is tried. */
  refusal: { code: string; message: string; times: number; until: string } | null;
  /** `file` is null when the service has no policy; `problem` says why a changed file was refused, so that the one before holds. */
  policy: { file: string | null; problem: ErrorBody | null };
  /** When this was decided. */
  at: string;
}

interface ExplainedSignal {
  name: SignalName;
  state: Signal['state'];
  value: number | null;
  threshold: number;
  age: number | null;
}

export interface Explained {
  vm: string;
  state: string;
  history: VmHistory;
  decision: Decision;
  policy: Policy;
  /** Of the policy file as a whole; null without one: then nothing is parked, whatever was decided. */
  file: { name: string; problem: ErrorBody | null } | null;
  now: number;
}

export function explain({ vm, state, history, decision, policy, file, now }: Explained): Explanation {
  const { signals, forecast, nextTimer } = decision;
  const { refusal } = history;
  const isOff = file === null;
  return {
    vm,
    state,
    verdict: isOff ? 'keep' : decision.verdict,
    rule: isOff ? 'off (no policy is configured)' : ruleOf(decision, policy),
    // Nobody asks without a policy.
    signals: (isOff ? [] : signals).map(({ name, state: is, value, threshold, ageMs }) => ({
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
    reason: isOff
      ? 'without a policy nothing is parked or woken by the service itself'
      : reasonOf(decision, history),
    nextTimerName: nextTimer?.name ?? null,
    refusal: refusal && {
      code: refusal.code,
      message: refusal.message,
      times: refusal.times,
      until: iso(refusal.untilMs),
    },
    policy: { file: file?.name ?? null, problem: file?.problem ?? null },
    at: iso(now),
  };
}

/** The rule, and the line of the policy that decided: `busy (policy.yaml:7, thresholds.network)`. */
export function ruleOf({ rule, setting }: Decision, policy: Policy): string {
  return setting === null ? rule : `${rule} (${placeOf(policy, setting)}, ${setting})`;
}

/**
 * What is decided and why, a line for each signal, and what is expected.
 * @param timeZone the reader's, unless told
 */
export function explanationText(explanation: Explanation, timeZone?: string): string {
  const { state, verdict, reason, rule, signals, forecast, nextTimer, nextTimerName, refusal, policy } =
    explanation;
  const percent = Math.round(forecast.confidence * 100);
  const when = (time: string) => {
    const ahead = (Date.parse(time) - Date.parse(explanation.at)) / 1000;
    const distance = ahead >= 0 ? `in ${formatSeconds(ahead)}` : `${formatSeconds(ahead)} ago`;
    return `${distance}, ${localTime(time, timeZone)} here, ${localTime(time, 'UTC')} UTC`;
  };
  const said = `${SAID[verdict]}: ${reason} (${rule})`;
  if (policy.file === null) return said;
  return [
    said,
    // A VM that is away is asked for nothing; what it will do by itself stays known.
    ...signals
      .filter(({ name }) => state !== 'parked' || name === 'timers' || name === 'lease')
      .map((signal) => `  ${signal.state.padEnd(8)}${signal.name.padEnd(9)} ${measured(signal)}`),
    forecast.nextUse === null
      ? `  no use is expected in the coming week (${percent} %)`
      : `  next use expected ${when(forecast.nextUse)} (${percent} %)`,
    nextTimer ? `  next timer ${nextTimerName} ${when(nextTimer)}` : '  no timer is honoured',
    ...(refusal
      ? [
          `  parking failed ${refusal.times === 1 ? 'once' : `${refusal.times} times`}: ${refusal.message}; again ${when(refusal.until)}`,
        ]
      : []),
    ...(policy.problem
      ? [`  ${policy.file} has changed and is wrong, so the one before holds:\n${policy.problem.message}`]
      : []),
  ].join('\n');
}

const SAID: Record<Decision['verdict'], string> = {
  park: 'park',
  wake: 'wake',
  abort: 'take the park back',
  keep: 'leave as it is',
};

/** A wake and its rule, as `woken because …` goes on. */
export function reasonOf(decision: Decision, history: VmHistory): string {
  return REASON[decision.rule](decision, history);
}

const REASON: Record<Decision['rule'], (decision: Decision, history: VmHistory) => string> = {
  never: () => 'the policy says never to park it',
  busy: ({ signal }) => `${signal} is busy`,
  unknown: ({ signal }) => `nothing is known of ${signal}, which counts as busy`,
  grace: () => 'it woke a short time ago',
  timer: ({ nextTimer }) =>
    `its timer ${nextTimer?.name ?? ''} is due at ${nextTimer ? iso(nextTimer.atMs) : '?'}`,
  lease: (_decision, { leaseMs }) =>
    `its DHCP lease ends at ${typeof leaseMs === 'number' ? iso(leaseMs) : '?'}`,
  forecast: ({ verdict, forecast }) => {
    const at = forecast.nextUse === null ? '?' : iso(forecast.nextUse);
    return verdict === 'wake'
      ? `its next use is expected at ${at}`
      : `its next use is expected at ${at}, too soon for a park to pay`;
  },
  refused: (_decision, { refusal }) => `it could not be parked: ${refusal?.message ?? '?'}`,
  idle: () => 'nobody uses it',
  parked: () => 'nothing is due',
  moving: () => 'it is on its way',
  stuck: () => 'it is stuck',
};

function measured({ name, value, threshold, age: ageS }: ExplainedSignal): string {
  const show = UNIT[name];
  const age = ageS === null ? 'never known' : `${formatSeconds(ageS)} old`;
  if (value === null) return name === 'timers' || name === 'lease' ? `none, ${age}` : age;
  const limit = name === 'timers' || name === 'lease' ? 'not below' : 'not above';
  return `${show(value)}, ${limit} ${show(threshold)}, ${age}`;
}

const UNIT: Record<SignalName, (value: number) => string> = {
  cpu: (value) => `${value} %`,
  network: (value) => `${formatBytes(value)}/s`,
  disk: (value) => `${formatBytes(value)}/s`,
  sessions: String,
  jobs: String,
  load: (value) => `${value} %`,
  dirty: (value) => `${formatBytes(value)}/s`,
  timers: formatSeconds,
  lease: formatSeconds,
};

/** `2026-11-21 19:40:00`; that is how Swedes write it. */
function localTime(time: string, timeZone: string | undefined): string {
  return new Date(time).toLocaleString('sv-SE', timeZone === undefined ? {} : { timeZone });
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
