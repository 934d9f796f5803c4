/** Work that is done by at most so many at a time, the others in the order in which they came. */

/** @param linger what a place is kept for when the work is done, as long as somebody waits for it */
export type Turns = (work: () => Promise<void>, linger: () => Promise<void>) => Promise<void>;

export function inTurns(places: number): Turns {
  const waiting: (() => void)[] = [];
  let free = places;
  return async (work, linger) => {
    if (free > 0) free--;
    else await new Promise<void>((enter) => waiting.push(enter));
    try {
      await work();
      if (waiting.length > 0) await linger();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else free++;
    }
  };
}
