/** The paper's own figures, from paper/*.csv: another machine and another decade, shown beside ours and compared with nothing. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Lines of a CSV file by the names of its columns; the first column is text. */
export function paperRows(name: 'table-3.1' | 'table-3.2' | 'figures'): Record<string, string>[] {
  const text = readFileSync(join(import.meta.dirname, 'paper', `${name}.csv`), 'utf8');
  const [head = [], ...rows] = text
    .trim()
    .split('\n')
    .map((line) => line.split(','));
  return rows.map((row) => Object.fromEntries(head.map((column, index) => [column, row[index] ?? ''])));
}

export function paperTable31(application: string): Record<string, number> | null {
  const row = paperRows('table-3.1').find((each) => each['application'] === application);
  return row ? Object.fromEntries(Object.entries(row).map(([key, value]) => [key, Number(value)])) : null;
}

/** `paperFigure('3.3', 'OpenSSH N=10')`; null where the paper has none. */
export function paperFigure(figure: string, condition: string): number | null {
  const row = paperRows('figures').find(
    (each) => each['figure']?.startsWith(`${figure} `) && each['condition'] === condition,
  );
  return row ? Number(row['value']) : null;
}
