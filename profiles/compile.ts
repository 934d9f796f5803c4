/** A profile as the filter and the agents need it: one entry per program, effect and path. */
import type { AllowedCall } from '../criu/answers.ts';
import type { Profile } from './profile.ts';

export function compileProfile(profile: Profile): AllowedCall[] {
  return Object.entries(profile).flatMap(([program, entries]) =>
    entries.flatMap(({ allow, paths, calls }): AllowedCall[] => [
      ...paths.flatMap((path) => allow.map((effect) => ({ program, effect, path }))),
      ...calls.map((call) => ({ program, effect: 'call' as const, call })),
    ]),
  );
}
