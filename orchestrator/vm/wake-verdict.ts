/**
 * Whether a wake was worth it: pure, decided on what the VM did from its return until a minute later.
 *
 * A wake is *false* when all of this holds: the call that woke it starts no process, whoever it was for was sent nothing on that
 * connection, no process was started or ended, its gateway processes and all others (without the vm-agent) each used less
 * than 1 % of a core, it wrote less than 1 MiB to its disk, and it sent no more than its sink had sent in its place (half as much again, and 512 bytes), so that
 * pings, keep-alives and whatever else the sink would have answered count for nothing.
 * What can't be read is no evidence: then the verdict is `unknown`, unless something else shows work. docs/wakes.md says the same.
 */
import type { GuestUsage } from '../../vm-agent/api.ts';

export type Verdict = 'used' | 'false' | 'unknown';

export interface WakeEvidence {
  /** Of the trigger. */
  rule: string | null;
  /** The guest right after the unpark and at the end of the window; null when its agent did not answer. */
  first: GuestUsage | null;
  last: GuestUsage | null;
  /** Uptime of the guest when the processes were let go, in milliseconds: who is younger was started since. */
  releasedAtMs: number;
  /** Bytes that the VM has sent since the flows led to it. */
  sentBytes: number | null;
  /** Bytes that its sink sent while it was parked, and for how long it was. */
  sinkSentBytes: number | null;
  parkedMs: number;
  /** From the flip to the end of the window. */
  windowMs: number;
}

export interface Judgement {
  verdict: Verdict;
  /** What showed work; of a false wake what was looked at; else why nobody knows. */
  because: string[];
}

export const CPU_SHARE = 0.01;
export const DISK_BYTES = 1024 * 1024;
export const SENT_BYTES = 512;
const SENT_FACTOR = 1.5;
/** Of a shorter park the sink's rate says little; then this much of it is taken for granted. */
const LEAST_PARKED_MS = 10_000;
/** Calls that are work themselves, wherever they lead. */
const WORKING_RULES: readonly string[] = ['process.create', 'process.exec'];

export function judgeWake(evidence: WakeEvidence): Judgement {
  const { rule, first, last } = evidence;
  const work: string[] = [];
  if (rule !== null && WORKING_RULES.includes(rule)) work.push('the call that woke it starts a process');
  const sent = sentBeyondSink(evidence);
  if (sent !== null && sent > SENT_BYTES) work.push(`sent ${kibibytes(sent)} more than its sink would have`);
  // Either look: the connection may be closed by the last one.
  const answered = Math.max(first?.clientBytes ?? 0, last?.clientBytes ?? 0);
  if (answered > 0) work.push(`answered the client that woke it with ${answered} B`);
  if (first && last) work.push(...guestWork(first, last, evidence.releasedAtMs));
  if (work.length > 0) return { verdict: 'used', because: work };
  if (!first || !last) return unknown('the vm-agent did not answer');
  if (sent === null) return unknown('the switch did not say what the VM has sent');
  return {
    verdict: 'false',
    because: [
      `no process started or ended, CPU ${usedMs(first, last, 'gateway')} ms of its gateway processes and ` +
        `${usedMs(first, last, 'others')} ms of others, ${kibibytes(written(first, last))} written, ` +
        `${kibibytes(evidence.sentBytes ?? 0)} sent`,
    ],
  };
}

export function unknown(reason: string): Judgement {
  return { verdict: 'unknown', because: [reason] };
}

function guestWork(first: GuestUsage, last: GuestUsage, releasedAtMs: number): string[] {
  if (first.bootId !== last.bootId) return ['the VM was started anew'];
  const work: string[] = [];
  const { newest } = last;
  if (newest && newest.startedMs >= releasedAtMs) work.push(`started ${newest.program}[${newest.pid}]`);
  // The gateway processes came back with nothing reaped; the others have a history.
  if (last.gateway.reaped > 0) work.push('its gateway processes ran others');
  if (last.others.reaped > first.others.reaped) work.push('processes ran and ended');
  const mostMs = Math.max(0, last.uptimeMs - first.uptimeMs) * CPU_SHARE;
  for (const [group, name] of [
    ['gateway', 'its gateway processes'],
    ['others', 'other processes'],
  ] as const) {
    const ms = usedMs(first, last, group);
    if (ms > mostMs) work.push(`${name} used ${ms} ms of CPU`);
  }
  if (written(first, last) > DISK_BYTES) work.push(`wrote ${kibibytes(written(first, last))} to disk`);
  return work;
}

/** Bytes beyond what the sink would have sent in that time; null when unknown. */
function sentBeyondSink(evidence: WakeEvidence): number | null {
  const { sentBytes, sinkSentBytes, parkedMs, windowMs } = evidence;
  if (sentBytes === null || sinkSentBytes === null) return null;
  const perMs = sinkSentBytes / Math.max(parkedMs, LEAST_PARKED_MS);
  return sentBytes - SENT_FACTOR * perMs * windowMs;
}

function usedMs(first: GuestUsage, last: GuestUsage, group: 'gateway' | 'others'): number {
  return Math.max(0, last[group].cpuMs - first[group].cpuMs);
}

function written(first: GuestUsage, last: GuestUsage): number {
  return Math.max(0, last.writtenBytes - first.writtenBytes);
}

function kibibytes(bytes: number): string {
  return `${(bytes / 1024).toFixed(1)} KiB`;
}
