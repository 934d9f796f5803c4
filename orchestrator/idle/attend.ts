/** Idle detection of a service: the policy file that its configuration names, watched, and the attention that goes by it. */
import type { Log } from '../../common/log.ts';
import type { Config } from '../config.ts';
import { type Journal, NO_VM } from '../saga/journal.ts';
import { Attention } from './attention.ts';
import { type PolicyFile, watchPolicy } from './policy/file.ts';
import type { AskHostMemory } from './spare-memory.ts';

/** Throws `CONFIG_INVALID` when the policy is wrong at the start. */
export function attend(
  { policy: path, sampleMs }: Pick<Config, 'policy' | 'sampleMs'>,
  journal: Journal,
  log: Log,
  hostMemory?: AskHostMemory,
): { attention: Attention; policy: PolicyFile | null; close(): Promise<void> } {
  const policy = path === undefined ? null : watchPolicy(path, log, () => changed());
  const every = sampleMs === undefined ? {} : { everyMs: sampleMs };
  const attention = new Attention({ policy, journal, log, ...every, ...(hostMemory ? { hostMemory } : {}) });

  const changed = () => {
    if (!policy) return;
    const { problem, current } = policy;
    const body = problem
      ? { state: 'refused', file: current.file, error: problem.toBody() }
      : { state: 'changed', file: current.file };
    journal.append([{ vm: NO_VM, event: 'policy', body }]);
    if (!problem) attention.policyChanged();
  };

  return {
    attention,
    policy,
    async close() {
      policy?.close();
      await attention.stop();
    },
  };
}
