/** A wake as the API tells it: what caused it, what the client saw, and whether it was worth it. Pure, from the journal. */
import type { JournalRecord } from '../saga/journal.ts';
import type { Operation } from './operation.ts';
import type { Wake } from './state.ts';
import { callAndReason, isPlanned, wakeLine } from './wake.ts';
import type { Verdict } from './wake-verdict.ts';

export interface WakeReport {
  /** The unpark. */
  operation: string;
  at: string;
  cause: Wake['cause'];
  /** One readable line. */
  line: string;
  /** The filter's rule that decided, and why it is activity (docs/activity.md). */
  rule: string | null;
  reason: string | null;
  /** The system call with its decoded arguments. */
  call: string | null;
  /** Whom it served: `203.0.113.7:51312`. */
  client: string | null;
  /** All that is known: program, PID, thread, number of the call, descriptor with its socket and peer. */
  trigger: Wake['trigger'];
  seen: ClientView;
  verdict: Verdict | 'pending' | 'not judged';
  /** What speaks for the verdict. */
  because: string[];
}

/** What the clients saw of the wake; null: not known (yet). */
export interface ClientView {
  /** How long the unpark took, in milliseconds. */
  unparkMs: number | null;
  /** How long the first packet waited that was held for the VM: the longest that any client waited for an answer. */
  firstHeldMs: number | null;
  heldPackets: number | null;
  /** How many of them were connection requests. */
  heldConnections: number | null;
  /** Packets that the sink still sent after the trigger, before all was held. */
  sinkAnswers: number | null;
}

/** How the wakes of a VM were judged, since the journal begins. */
export interface WakeCounts {
  used: number;
  false: number;
  unknown: number;
  /** False wakes by the rule that caused them, most first. */
  falseByRule: { rule: string; count: number }[];
}

/** Within this time of the unpark the first look is taken, or fails. */
const FIRST_LOOK_MS = 30_000;
const LOST = 'its sink was lost, so it came back as it was when it was parked';

/** @param records of the unpark's saga; @returns null when it is no unpark */
export function wakeReport(
  records: readonly JournalRecord[],
  operation: Operation,
  nowMs = Date.now(),
): WakeReport | null {
  const wake = (records[0]?.body.input as { wake?: Wake } | undefined)?.wake;
  if (!wake) return null;
  const { trigger } = wake;
  const { call, reason } =
    wake.cause === 'syscall' ? callAndReason(wake.trigger.detail) : { call: null, reason: null };
  const judged = records.findLast(({ event }) => event === 'wakeJudged')?.body;
  return {
    operation: operation.id,
    at: wake.at ?? operation.startedAt,
    cause: wake.cause,
    line: lostSink(records) ? `${wakeLine(wake)}; ${LOST}` : wakeLine(wake),
    rule: trigger?.rule ?? null,
    reason,
    call,
    client: (trigger && 'client' in trigger ? trigger.client : null) ?? null,
    trigger,
    seen: clientView(operation),
    verdict: (judged?.verdict as Verdict | undefined) ?? unjudged(records, wake, operation, nowMs),
    because: (judged?.because as string[] | undefined) ?? [],
  };
}

/** The sink was killed behind our back, and what its processes did there is gone. */
function lostSink(records: readonly JournalRecord[]): boolean {
  return records.some(
    ({ event, step, body }) =>
      step === 'freeze' &&
      event === 'succeeded' &&
      (body.output as { lost?: true } | undefined)?.lost === true,
  );
}

/** A wake by hand or ahead of its use is not judged, nor one that failed, nor one of before anybody watched. */
function unjudged(records: readonly JournalRecord[], { cause }: Wake, { status }: Operation, nowMs: number) {
  if (isPlanned(cause)) return 'not judged';
  const isWatched = records.some(({ event }) => event === 'wakeWatched');
  const isFresh = status === 'succeeded' && nowMs - (records.at(-1)?.atMs ?? 0) < FIRST_LOOK_MS;
  return isWatched || isFresh || status === 'running' ? 'pending' : 'not judged';
}

/** `a false wake: no process started …` */
export function verdictLine({ verdict, because }: { verdict: string; because: readonly string[] }): string {
  const said: Record<string, string> = {
    used: 'the wake was needed',
    false: 'a false wake',
    unknown: 'nobody knows whether the wake was needed',
    pending: 'whether the wake was needed is known a minute after it',
  };
  const why = because.join('; ');
  return `${said[verdict] ?? verdict}${why ? `: ${why}` : ''}`;
}

/** @param judged records `wakeJudged` of one VM */
export function countWakes(judged: readonly JournalRecord[]): WakeCounts {
  const counts = { used: 0, false: 0, unknown: 0 };
  const byRule = new Map<string, number>();
  for (const { body } of judged) {
    const verdict = body.verdict as Verdict;
    counts[verdict] += 1;
    const rule = String(body.rule);
    if (verdict === 'false') byRule.set(rule, (byRule.get(rule) ?? 0) + 1);
  }
  const falseByRule = [...byRule].map(([rule, count]) => ({ rule, count }));
  return { ...counts, falseByRule: falseByRule.toSorted((a, b) => b.count - a.count) };
}

function clientView({ ms, result }: Operation): ClientView {
  const number = (key: string) => (typeof result[key] === 'number' ? result[key] : null);
  return {
    unparkMs: ms,
    firstHeldMs: number('firstHeldMs'),
    heldPackets: number('heldPackets'),
    heldConnections: number('heldConnections'),
    sinkAnswers: number('sinkAnswers'),
  };
}
