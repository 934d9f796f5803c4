/** Random numbers that a seed decides: the same trace on every machine, in any number of threads. Mulberry32. */
export interface Random {
  /** 0 ≤ x < 1. */
  next(): number;
  between(min: number, max: number): number;
  /** Exponential: the time to the next of independent events. */
  wait(mean: number): number;
  /** Around `mean`, within three deviations. */
  normal(mean: number, deviation: number): number;
  chance(probability: number): boolean;
}

/** @param stream tells apart the generators of one seed, such as those of its VMs */
export function random(seed: number, stream = 0): Random {
  let state = mix(mix(seed >>> 0) ^ mix(stream + 0x9e3779b9));
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    next,
    between: (min, max) => min + next() * (max - min),
    wait: (mean) => -Math.log(1 - next()) * mean,
    normal(mean, deviation) {
      const unit = Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
      return mean + deviation * Math.max(-3, Math.min(3, unit));
    },
    chance: (probability) => next() < probability,
  };
}

function mix(value: number): number {
  let x = value | 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return x ^ (x >>> 16);
}
