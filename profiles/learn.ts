/** From what an observer saw to a proposal: YAML that a person reads, judges and puts into a profile. Nothing is applied by itself. */
import { posix } from 'node:path';
import type { Observation, ObservationReport } from '../vm-agent/api.ts';
import { parseProfile } from './profile.ts';

/** One path, and all that was done with it. */
interface Wish {
  effects: Set<'stat' | 'open' | 'list'>;
  seen: Observation[];
}

const INDENT = '    ';

/** @param template whose profile it is for. */
export function proposeProfile(vm: string, template: string, report: ObservationReport): string {
  const { observations, processes, threads, calls, ms } = report;
  const lines = [
    `# Proposed for profiles/${template}.yaml by watching the ${processes} gateway processes (${threads} threads) of ${vm} for ${seconds(ms)}`,
    `# seconds: ${calls} calls, of which ${observations.reduce((sum, { count }) => sum + count, 0)} would have woken it. Nothing is applied by itself:`,
    '# read the reasons, keep what is housekeeping, and say in `because` why. Paths of one folder can be folded by * in the last component.',
  ];
  const byProgram = Map.groupBy(observations, ({ program }) => program);
  const proposals = [...byProgram].map(([program, seen]) => ({ program, ...judge(program, seen) }));
  const proposed = proposals.filter(({ entries }) => entries.length > 0);
  lines.push(proposed.length === 0 ? 'programs: {}' : 'programs:');
  for (const { program, entries } of proposed) lines.push(`  ${program}:`, ...entries);
  const impossible = proposals.flatMap(({ program, others }) =>
    others.map((text) => `#   ${program}: ${text}`),
  );
  if (impossible.length > 0) {
    lines.push('', '# Seen as well, and no profile can allow it; the VM wakes for it:', ...impossible);
  }
  if (observations.length === 0) lines.push('# Nothing that these processes did would have woken the VM.');
  return `${lines.join('\n')}\n`;
}

function judge(
  program: string,
  observations: readonly Observation[],
): { entries: string[]; others: string[] } {
  const paths = new Map<string, Wish>();
  const calls = new Map<string, Observation[]>();
  const others: string[] = [];
  for (const seen of observations) {
    const { effect, path, syscall } = seen;
    if (effect === 'call') calls.set(syscall, [...(calls.get(syscall) ?? []), seen]);
    else if (effect === undefined || path === undefined || !isAllowable(program, path))
      others.push(line(seen));
    else {
      const wish = paths.get(path) ?? { effects: new Set(), seen: [] };
      wish.effects.add(effect === 'stat' || effect === 'list' ? effect : 'open');
      wish.seen.push(seen);
      paths.set(path, wish);
    }
  }
  const entries = [...paths].flatMap(([path, { effects, seen }]) =>
    entry([`allow: [${wanted(effects).join(', ')}]`, `paths: [${JSON.stringify(path)}]`], seen),
  );
  for (const [call, seen] of calls) entries.push(...entry([`calls: [${call}]`], seen));
  return { entries, others };
}

/** An open folder is looked at and closed like a file; to list it is all that there is to it. */
function wanted(effects: Wish['effects']): string[] {
  return [...effects]
    .filter((effect) => effect !== 'open' || !effects.has('list'))
    .sort()
    .reverse();
}

function entry(what: string[], seen: readonly Observation[]): string[] {
  const count = Math.max(...seen.map((each) => each.count));
  const most = seen.find((each) => each.count === count) as Observation;
  const because = `${count} times${period(most)} while idle; for example ${most.detail}`;
  return [...what, `because: ${JSON.stringify(because)}`].map(
    (text, index) => `${INDENT}${index === 0 ? '- ' : '  '}${text}`,
  );
}

function line(seen: Observation): string {
  const { detail, count, rule } = seen;
  return `${detail}: ${count} times${period(seen)} (${rule})`.replace(/\p{Cc}/gu, ' ');
}

/** ` (every 10.0 s)`, for what came often enough to tell. */
function period({ count, firstMs, lastMs }: Observation): string {
  return count < 2 ? '' : ` (every ${seconds((lastMs - firstMs) / (count - 1))} s)`;
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(1);
}

/** By the profile's own schema. */
function isAllowable(program: string, path: string): boolean {
  if (posix.normalize(path) !== path || /[*?]/.test(path)) return false;
  try {
    parseProfile(
      `programs: {${JSON.stringify(program)}: [{allow: [stat], paths: [${JSON.stringify(path)}], because: x}]}`,
    );
    return true;
  } catch {
    return false;
  }
}
