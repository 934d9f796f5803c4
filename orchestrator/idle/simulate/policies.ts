/** The policies that a simulation compares. Named so that a thread can be told of them. */
import { type PolicyDocument, parsePolicy } from '../policy/document.ts';
import { BUILT_IN } from '../policy/policy.ts';
import { oracle } from './oracle.ts';
import { type Outcome, replay } from './replay.ts';
import type { VmTrace } from './trace.ts';

export type Contender =
  /** The built-in settings, with what is learned left aside, or used. */
  | { name: 'fixed' | 'histogram' }
  /** Knows what comes. */
  | { name: 'oracle' }
  /** A policy file, as it is written. */
  | { name: 'policy'; text: string; file: string };

export const USUAL: readonly Contender[] = [{ name: 'fixed' }, { name: 'histogram' }, { name: 'oracle' }];

/** What this policy makes of a trace. */
export function contend(contender: Contender): (trace: VmTrace) => Outcome {
  if (contender.name === 'oracle') return (trace) => oracle(trace);
  if (contender.name === 'policy') {
    const document: PolicyDocument = parsePolicy(contender.text, contender.file);
    return (trace) => replay(trace, document.policyFor({ name: trace.name, host: '' }));
  }
  const policy = {
    ...BUILT_IN,
    forecast: contender.name === 'fixed' ? ('ignore' as const) : ('wake' as const),
  };
  return (trace) => replay(trace, policy);
}
