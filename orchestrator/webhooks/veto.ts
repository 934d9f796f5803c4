/** Whether the policy has a word against a park that an alarm asks for. Pure. */
import type { Explanation } from '../idle/explain.ts';

/** What is unknown here is no veto: the alarm is somebody's knowledge, and the agents look before they move anything. */
const AGAINST = /^(never|busy|timer|lease|forecast)\b/;

export function vetoOf({ rule, reason }: Pick<Explanation, 'rule' | 'reason'>): string | null {
  return AGAINST.test(rule) ? `${reason} (${rule})` : null;
}
