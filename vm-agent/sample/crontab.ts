/** When cron runs what next: the five fields of crontab(5), names, lists, ranges, steps and @daily. In the guest's own time zone. */
const FIELDS = [
  { min: 0, max: 59 },
  { min: 0, max: 23 },
  { min: 1, max: 31 },
  {
    min: 1,
    max: 12,
    names: ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'],
  },
  { min: 0, max: 7, names: ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] },
] as const;
const SHORTHANDS: Record<string, string> = {
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
  '@monthly': '0 0 1 * *',
  '@weekly': '0 0 * * 0',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@hourly': '0 * * * *',
};
/** 29 February comes at the latest after eight years; what never comes ends the search. */
const MOST_DAYS = 8 * 366 + 1;

interface Schedule {
  minutes: Set<number>;
  hours: Set<number>;
  days: Set<number>;
  months: Set<number>;
  weekdays: Set<number>;
  /** With both given a day needs only one of them. */
  eitherDay: boolean;
}

/** The schedules of a crontab's text; null when a line can't be understood: then nobody knows when it runs. */
export function parseCrontab(text: string): Schedule[] | null {
  const lines = text.split('\n').map((line) => line.trim());
  const entries = lines.filter((line) => line !== '' && !line.startsWith('#') && !/^\w+\s*=/.test(line));
  const schedules: Schedule[] = [];
  for (const entry of entries) {
    const [first = ''] = entry.split(/\s+/);
    if (first === '@reboot') continue;
    const expression = first.startsWith('@') ? SHORTHANDS[first] : entry.split(/\s+/).slice(0, 5).join(' ');
    const schedule = expression === undefined ? null : parseSchedule(expression);
    if (schedule === null) return null;
    schedules.push(schedule);
  }
  return schedules;
}

export function parseSchedule(expression: string): Schedule | null {
  const cells = expression.split(' ');
  const sets = FIELDS.map((field, index) => parseField(cells[index] ?? '', field));
  const [minutes, hours, days, months, weekdays] = sets;
  if (!minutes || !hours || !days || !months || !weekdays) return null;
  if (weekdays.has(7)) weekdays.add(0);
  const eitherDay = !cells[2]?.startsWith('*') && !cells[4]?.startsWith('*');
  return { minutes, hours, days, months, weekdays, eitherDay };
}

/** The next minute of a schedule after `now`, in milliseconds since 1970; null when it never comes. */
export function nextRun(schedule: Schedule, now: number): number | null {
  const { minutes, hours } = schedule;
  const start = new Date(now);
  for (let ahead = 0; ahead < MOST_DAYS; ahead++) {
    const day = new Date(start.getFullYear(), start.getMonth(), start.getDate() + ahead);
    if (!isDay(schedule, day)) continue;
    for (let hour = 0; hour < 24; hour++) {
      if (!hours.has(hour)) continue;
      for (let minute = 0; minute < 60; minute++) {
        if (!minutes.has(minute)) continue;
        const at = new Date(day.getFullYear(), day.getMonth(), day.getDate(), hour, minute).getTime();
        if (at > now) return at;
      }
    }
  }
  return null;
}

function isDay({ days, months, weekdays, eitherDay }: Schedule, date: Date): boolean {
  if (!months.has(date.getMonth() + 1)) return false;
  const byDay = days.has(date.getDate());
  const byWeekday = weekdays.has(date.getDay());
  return eitherDay ? byDay || byWeekday : byDay && byWeekday;
}

function parseField(text: string, field: (typeof FIELDS)[number]): Set<number> | null {
  const found = new Set<number>();
  for (const part of text.split(',')) {
    const [, range = '', step = '1'] = /^([^/]+)(?:\/(\d+))?$/.exec(part) ?? [];
    const [from, to, ...rest] =
      range === '*' ? [field.min, field.max] : range.split('-').map((cell) => value(cell, field));
    const last = to ?? (part.includes('/') ? field.max : from);
    if (from === undefined || last === undefined || rest.length > 0 || !(from <= last) || Number(step) === 0)
      return null;
    for (let each = from; each <= last; each += Number(step)) found.add(each);
  }
  return found;
}

/** NaN for what is none. */
function value(cell: string, field: (typeof FIELDS)[number]): number {
  const names: readonly string[] = 'names' in field ? field.names : [];
  const named = names.indexOf(cell.toLowerCase());
  const number =
    named >= 0 ? named + (field.min === 1 ? 1 : 0) : /^\d+$/.test(cell) ? Number(cell) : Number.NaN;
  return number >= field.min && number <= field.max ? number : Number.NaN;
}
