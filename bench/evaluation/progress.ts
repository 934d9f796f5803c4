/** A bar on a terminal, a line per step elsewhere; on standard error, since standard output may be JSON. */
import { stderr } from 'node:process';

const WIDTH = 24;

export interface Progress {
  /** A step is done. */
  advance(done: string): void;
  /** What is under way; drawn on a terminal only. */
  say(what: string): void;
  end(): void;
}

export function startProgress(title: string, steps: number): Progress {
  const startedAt = performance.now();
  let done = 0;
  const draw = (what: string) => {
    const filled = Math.round((WIDTH * Math.min(done, steps)) / steps);
    const bar = `${'█'.repeat(filled)}${'░'.repeat(WIDTH - filled)}`;
    const seconds = Math.round((performance.now() - startedAt) / 1000);
    const line = `${title} ${bar} ${done}/${steps} ${seconds} s  ${what}`;
    if (stderr.isTTY) stderr.write(`\r\x1b[K${line.slice(0, (stderr.columns ?? 100) - 1)}`);
    else stderr.write(`${line}\n`);
  };
  return {
    advance(what) {
      done++;
      draw(what);
    },
    say: (what) => stderr.isTTY && draw(what),
    end: () => stderr.isTTY && stderr.write('\n'),
  };
}
