/** Which VMs a selector of the policy file means. */
export interface Match {
  /** One of these; null: any. */
  names: readonly string[] | null;
  /** All of these. */
  labels: readonly (readonly [key: string, pattern: string])[];
  metadata: readonly (readonly [key: string, pattern: string])[];
}

interface Matched {
  name: string;
  labels?: Record<string, string>;
  metadata?: Record<string, string>;
}

export function isMatch({ names, labels, metadata }: Match, vm: Matched): boolean {
  const holds = (wanted: Match['labels'], actual: Record<string, string> = {}) =>
    wanted.every(([key, pattern]) => Object.hasOwn(actual, key) && isGlobMatch(pattern, actual[key] ?? ''));
  return (
    (names === null || names.some((pattern) => isGlobMatch(pattern, vm.name))) &&
    holds(labels, vm.labels) &&
    holds(metadata, vm.metadata)
  );
}

/** `*` stands for any run of characters, `?` for one. Linear: no pattern can make it slow. */
export function isGlobMatch(pattern: string, text: string): boolean {
  let p = 0;
  let t = 0;
  let star = -1;
  let resume = 0;
  while (t < text.length) {
    if (p < pattern.length && pattern[p] === '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.length && (pattern[p] === '?' || pattern[p] === text[t])) {
      p++;
      t++;
    } else if (star >= 0) {
      p = star + 1;
      t = ++resume;
    } else return false;
  }
  while (pattern[p] === '*') p++;
  return p === pattern.length;
}
