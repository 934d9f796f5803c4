/** Pieces of Markdown that the parts of the page have in common. */
import type { Summary } from '../statistics.ts';

export function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (words: readonly string[]) => `| ${words.join(' | ')} |`;
  const rule = heads.map((_head, index) => (index === 0 ? '---' : '---:'));
  return [line(heads), line(rule), ...rows.map(line)].join('\n');
}

/** `315 (298–470)` */
export function spread({ median, min, max }: Summary): string {
  return `${whole(median)} (${whole(min)}–${whole(max)})`;
}

export function whole(value: number): string {
  return Number.isFinite(value) ? String(Math.round(value)) : '–';
}

export function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0);
}

/** Whether what was to be reached is. */
export function verdict(reached: boolean): string {
  return reached ? 'reached' : '**not reached**';
}
