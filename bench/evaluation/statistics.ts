/** What is told of repeated measurements: median, extremes, percentiles, and from how many runs. */

export interface Summary {
  median: number;
  min: number;
  max: number;
  runs: number;
}

export function summary(values: readonly number[]): Summary {
  const sorted = ascending(values);
  return {
    median: round(percentile(sorted, 50)),
    min: round(sorted[0] ?? Number.NaN),
    max: round(sorted.at(-1) ?? Number.NaN),
    runs: sorted.length,
  };
}

export function median(values: readonly number[]): number {
  return percentile(values, 50);
}

/** Between two values by linear interpolation; NaN of none. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = ascending(values);
  const at = ((sorted.length - 1) * percent) / 100;
  const [low, high] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  if (low === undefined || high === undefined) return Number.NaN;
  return low + (high - low) * (at - Math.floor(at));
}

/** To a tenth: what these measurements can bear. */
export function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function ascending(values: readonly number[]): number[] {
  return values.toSorted((a, b) => a - b);
}
