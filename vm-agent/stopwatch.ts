/** Where the time of an operation goes: `{scan: 310, dump: 640}` in milliseconds, for the log. */
export interface Stopwatch {
  /** Ends the step that has run since the last lap. */
  lap(step: string): void;
  readonly steps: Record<string, number>;
}

export function startStopwatch(now: () => number = () => performance.now()): Stopwatch {
  let last = now();
  const steps: Record<string, number> = {};
  return {
    steps,
    lap(step) {
      const at = now();
      steps[step] = Math.round(at - last);
      last = at;
    },
  };
}
