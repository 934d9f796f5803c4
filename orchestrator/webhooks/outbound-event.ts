/** Which records of the journal receivers are told of, and in which words. Pure. */
import type { ErrorBody } from '../../common/errors.ts';
import type { JournalRecord } from '../saga/journal.ts';

export const OUTBOUND = ['parked', 'unparked', 'stuck', 'refused'] as const;
export type OutboundKind = (typeof OUTBOUND)[number];

/** The body, as in Standard Webhooks. */
export interface OutboundEvent {
  type: `vm.${OutboundKind}`;
  /** When it happened. */
  timestamp: string;
  data: { vm: string; operation: string; error: Pick<ErrorBody, 'code' | 'message'> | null };
}

/** The same at each attempt, by which a receiver knows what it has had. */
export function eventId({ seq, atMs }: JournalRecord): string {
  return `evt_${atMs.toString(36)}_${seq}`;
}

/** @returns null for what nobody is told: a park that was taken back because the VM was wanted is no news */
export function outboundEvent({ event, saga, vm, body, atMs }: JournalRecord): OutboundEvent | null {
  if (event !== 'sagaEnded' || saga === null) return null;
  const error = (body.error as ErrorBody | undefined) ?? null;
  const kind = kindOf(saga.startsWith('park-'), String(body.kind), error);
  if (kind === null) return null;
  const said = error && { code: error.code, message: error.message };
  return {
    type: `vm.${kind}`,
    timestamp: new Date(atMs).toISOString(),
    data: { vm, operation: saga, error: said },
  };
}

function kindOf(isPark: boolean, outcome: string, error: ErrorBody | null): OutboundKind | null {
  if (outcome === 'stuck') return 'stuck';
  if (outcome === 'succeeded') return isPark ? 'parked' : 'unparked';
  return isPark && error !== null && error.code !== 'ABORTED' ? 'refused' : null;
}
