/** What the guest will do by itself: timers of systemd, jobs of cron and at. null: somebody could not be asked, or not be understood. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { exec } from '../../common/exec.ts';
import type { GuestTimer } from '../api.ts';
import { nextRun, parseCrontab } from './crontab.ts';

export interface Plans {
  timers: GuestTimer[] | null;
  /** Services that timers start. */
  scheduledUnits: ReadonlySet<string>;
  /** A timer has no next time at the moment: its service runs, and it will have one when that has ended. */
  isPending: boolean;
}

/** @param root of the file tree */
export async function readPlans(now: number, root = '/'): Promise<Plans> {
  const systemd = await readSystemdTimers();
  const cron = readCron(now, root);
  const timers = systemd && cron ? [...systemd.timers, ...cron, ...readAtJobs(root)] : null;
  const { scheduledUnits = new Set<string>(), isPending = false } = systemd ?? {};
  return { timers, scheduledUnits, isPending };
}

/** systemd notes there each unit that is started or ends, timers too; the others are where jobs of cron and at are put. */
const CHANGED_WITH_PLANS = [
  'run/systemd/units',
  'run/crond.pid',
  'etc/crontab',
  'etc/cron.d',
  'var/spool/cron/crontabs',
  'var/spool/cron/atjobs',
];

/** Another one when plans may have changed. Costs next to nothing, where asking systemd takes a process. */
export function plansStamp(root = '/'): string {
  return CHANGED_WITH_PLANS.map(
    (path) => statSync(join(root, path), { throwIfNoEntry: false })?.mtimeMs ?? 0,
  ).join();
}

async function readSystemdTimers(): Promise<ReturnType<typeof parseTimerList>> {
  try {
    const { stdout } = await exec(['systemctl', 'list-timers', '--all', '--output=json'], {
      timeoutMs: 30_000,
    });
    return parseTimerList(stdout);
  } catch {
    return null;
  }
}

/** Of `systemctl list-timers --output=json`: times in microseconds, 0 or null for none. */
export function parseTimerList(
  json: string,
): { timers: GuestTimer[]; scheduledUnits: Set<string>; isPending: boolean } | null {
  let rows: unknown;
  try {
    rows = JSON.parse(json);
  } catch {
    return null;
  }
  if (!Array.isArray(rows)) return null;
  const timers: GuestTimer[] = [];
  const scheduledUnits = new Set<string>();
  let isPending = false;
  for (const row of rows as { next?: unknown; unit?: unknown; activates?: unknown }[]) {
    if (typeof row.unit !== 'string') return null;
    if (typeof row.activates === 'string') scheduledUnits.add(row.activates);
    if (typeof row.next === 'number' && row.next > 0) timers.push({ name: row.unit, atMs: row.next / 1000 });
    // One that is not active names no service.
    else if (typeof row.activates === 'string') isPending = true;
  }
  return { timers, scheduledUnits, isPending };
}

/** The next run of each crontab; those of a cron that isn't running don't count. */
function readCron(now: number, root: string): GuestTimer[] | null {
  if (!existsSync(join(root, 'run/crond.pid'))) return [];
  const timers: GuestTimer[] = [];
  for (const file of crontabs(root)) {
    const schedules = parseCrontab(readFileSync(join(root, file), 'utf8'));
    if (schedules === null) return null;
    const next = schedules.map((schedule) => nextRun(schedule, now)).filter((at) => at !== null);
    if (next.length > 0) timers.push({ name: `cron:${file}`, atMs: Math.min(...next) });
  }
  return timers;
}

function crontabs(root: string): string[] {
  const inFolder = (folder: string) =>
    existsSync(join(root, folder)) ? readdirSync(join(root, folder)).map((name) => `${folder}/${name}`) : [];
  // As cron does: no names with dots, which are a package manager's left-overs.
  const system = inFolder('etc/cron.d').filter((file) => /^[\w-]+$/.test(file.slice('etc/cron.d/'.length)));
  const main = existsSync(join(root, 'etc/crontab')) ? ['etc/crontab'] : [];
  return [...main, ...system, ...inFolder('var/spool/cron/crontabs')];
}

/** at(1) names its jobs by queue, number and minute: `a0000101c2e4f6`. */
export function readAtJobs(root: string): GuestTimer[] {
  const folder = join(root, 'var/spool/cron/atjobs');
  if (!existsSync(folder)) return [];
  return readdirSync(folder).flatMap((name) => {
    const [, number = '', minute = ''] = /^[a-zA-Z]([0-9a-f]{5})([0-9a-f]{8})$/.exec(name) ?? [];
    return minute === '' ? [] : [{ name: `at:${parseInt(number, 16)}`, atMs: parseInt(minute, 16) * 60_000 }];
  });
}
