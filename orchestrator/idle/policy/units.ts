/** Durations, sizes and shares as people write them: `15m`, `1h 30m`, `64 KiB/s`, `5%`. Each gives null for what is not one. */
const MS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const BYTES: Record<string, number> = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };

/** Milliseconds. */
export function parseDuration(text: string): number | null {
  if (!/^\d+(\.\d+)?[smhd]( \d+(\.\d+)?[smhd])*$/.test(text)) return null;
  return text
    .split(' ')
    .reduce((sum, part) => sum + Number(part.slice(0, -1)) * (MS[part.at(-1) ?? ''] ?? 0), 0);
}

/** Bytes. */
export function parseSize(text: string): number | null {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?) ?([KMGT]?i?B)$/.exec(text) ?? [];
  const factor = BYTES[unit];
  return number === undefined || factor === undefined ? null : Number(number) * factor;
}

/** Bytes per second. */
export function parseRate(text: string): number | null {
  return text.endsWith('/s') ? parseSize(text.slice(0, -2)) : null;
}

/** Percent, 0 to 100. */
export function parsePercent(text: string): number | null {
  const [, number] = /^(\d+(?:\.\d+)?) ?%$/.exec(text) ?? [];
  return number === undefined || Number(number) > 100 ? null : Number(number);
}

/** `90` → `1m 30s`: the two greatest units of so many seconds. */
export function formatSeconds(seconds: number): string {
  const parts: string[] = [];
  let left = Math.round(Math.abs(seconds));
  for (const [unit, size] of [
    ['d', 86_400],
    ['h', 3600],
    ['m', 60],
    ['s', 1],
  ] as const) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count > 0) parts.push(`${count}${unit}`);
  }
  return parts.slice(0, 2).join(' ') || '0s';
}

export function formatBytes(bytes: number): string {
  const unit =
    (['TiB', 'GiB', 'MiB', 'KiB'] as const).find((each) => bytes >= (BYTES[each] as number)) ?? 'B';
  return `${Number((bytes / (BYTES[unit] as number)).toPrecision(3))} ${unit}`;
}
