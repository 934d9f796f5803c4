/**
 * Synthetic traces of a mixed estate: most VMs idle, people with days and weeks, timers, scanners. Each VM depends on the seed and its
 * number alone. What is quiet and yet in use is in it on purpose: people who read for up to twelve minutes, jobs that wait for up to ten.
 */

import type { Timer } from '../signals.ts';
import { type Random, random } from './random.ts';
import { type Activity, flatten, meters, type VmTrace } from './trace.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** A Monday, 00:00 UTC. */
const START = Date.UTC(2026, 0, 5);

/** Kinds of VMs and how many of a hundred are of each. */
export const KINDS = {
  /** Forgotten: nothing but its own housekeeping. */
  idle: 30,
  /** An application that an office uses on weekdays. */
  office: 18,
  /** A person's machine: ssh sessions, typing, reading, compiling, work that runs on after the logout. */
  developer: 12,
  /** A timer at night starts long work. */
  nightly: 10,
  /** A timer each hour starts a minute of work. */
  hourly: 8,
  /** A site that few visit, more by day. */
  website: 8,
  /** A report that people read on one morning of the week. */
  weekly: 4,
  /** Used at any time, seldom. */
  sporadic: 5,
  /** Never idle. */
  loaded: 5,
} as const;
export type Kind = keyof typeof KINDS;

const USE = meters({ cpu: 12, network: 20_000, disk: 200_000, load: 8, dirty: 2_000_000 });
const TYPING = meters({ cpu: 4, network: 400, disk: 30_000, sessions: 1, load: 5, dirty: 500_000 });
const COMPILING = meters({ cpu: 80, network: 0, disk: 4_000_000, jobs: 1, load: 160, dirty: 30_000_000 });
const LEFT_RUNNING = meters({ cpu: 30, network: 0, disk: 1_000_000, load: 60, dirty: 8_000_000 });
const SCHEDULED = meters({ cpu: 40, network: 0, disk: 3_000_000, jobs: 1, load: 70, dirty: 20_000_000 });
const SCHEDULED_WAITING = meters({ cpu: 1, network: 0, disk: 4000, jobs: 1, load: 1, dirty: 30_000 });
const HICCUP = meters({ cpu: 25, network: 0, disk: 800_000, load: 20, dirty: 2_000_000 });
const SILENT = meters({ cpu: 0.6, disk: 2048, load: 0.3, dirty: 16 * 1024 });

interface Draft {
  rng: Random;
  toMs: number;
  activities: Activity[];
  timers: Timer[];
  /** Somebody uses the VM. */
  use(fromMs: number, durationMs: number, values: readonly number[], requests: number): void;
  /** The VM works by itself; `busy` when that work matters. */
  work(fromMs: number, durationMs: number, values: readonly number[], busy: boolean): void;
}

export function generateVm(seed: number, index: number, days: number): VmTrace {
  const rng = random(seed, index);
  const toMs = START + days * DAY;
  const activities: Activity[] = [];
  const add = (
    fromMs: number,
    durationMs: number,
    values: readonly number[],
    requests: number,
    busy: boolean,
  ) => {
    const from = Math.round(fromMs);
    const to = Math.min(toMs, Math.round(fromMs + durationMs));
    if (from >= START && to > from) activities.push({ fromMs: from, toMs: to, values, requests, busy });
  };
  const draft: Draft = {
    rng,
    toMs,
    activities,
    timers: [],
    use: (from, ms, values, requests) => add(from, ms, values, requests, true),
    work: (from, ms, values, busy) => add(from, ms, values, 0, busy),
  };
  const kind = pickKind(rng);
  DRAW[kind](draft);
  housekeeping(draft);
  return {
    name: `${kind}-${index}`,
    memoryMiB: 1024 * 2 ** Math.floor(rng.between(0, 5)),
    fromMs: START,
    toMs,
    stretches: flatten(activities),
    probes: rng.chance(0.25) ? scans(draft) : [],
    timers: draft.timers.filter(({ atMs }) => atMs < toMs).sort((a, b) => a.atMs - b.atMs),
  };
}

const DRAW: Record<Kind, (draft: Draft) => void> = {
  idle() {},
  office(draft) {
    const { rng } = draft;
    const opens = rng.normal(8.75, 0.75) * HOUR;
    const closes = rng.normal(17.25, 0.75) * HOUR;
    const pause = rng.between(8, 30) * MINUTE;
    eachDay(draft, (day, isWorkday) => {
      if (!isWorkday || !rng.chance(0.94)) return;
      bursts(draft, day + opens + rng.normal(0, 12 * MINUTE), day + 12 * HOUR, pause);
      bursts(draft, day + rng.normal(13, 0.1) * HOUR, day + closes + rng.normal(0, 20 * MINUTE), pause);
      if (rng.chance(0.03)) bursts(draft, day + 20 * HOUR, day + 22 * HOUR, pause);
    });
  },
  developer(draft) {
    const { rng } = draft;
    const comes = rng.normal(9.5, 1) * HOUR;
    eachDay(draft, (day, isWorkday) => {
      if (rng.chance(isWorkday ? 0.8 : 0.08)) session(draft, day + comes + rng.normal(0, 0.5 * HOUR));
      if (rng.chance(isWorkday ? 0.5 : 0.04)) session(draft, day + rng.between(13.5, 21) * HOUR);
    });
  },
  nightly(draft) {
    const { rng } = draft;
    const at = rng.between(0, 6) * HOUR;
    const usual = rng.between(15, 90) * MINUTE;
    eachDay(draft, (day) => {
      draft.timers.push({ name: 'nightly.timer', atMs: Math.round(day + at) });
      scheduledWork(draft, day + at, usual * rng.between(0.7, 1.3));
    });
  },
  hourly(draft) {
    const { rng } = draft;
    const minute = rng.between(0, 60) * MINUTE;
    for (let at = START + minute; at < draft.toMs; at += HOUR) {
      draft.timers.push({ name: 'hourly.timer', atMs: Math.round(at) });
      draft.work(at, rng.between(20, 90) * SECOND, SCHEDULED, true);
    }
  },
  website(draft) {
    const { rng } = draft;
    const busiest = rng.between(0.5, 3);
    for (let at = START; at < draft.toMs; ) {
      at += rng.wait(HOUR / busiest);
      const byDay = 0.5 - 0.5 * Math.cos((2 * Math.PI * ((at - 2 * HOUR) % DAY)) / DAY);
      if (!rng.chance(0.08 + 0.92 * byDay)) continue;
      const length = rng.between(20 * SECOND, 4 * MINUTE);
      draft.use(at, length, USE, 2 + Math.floor(length / (15 * SECOND)));
      at += length;
    }
  },
  weekly(draft) {
    const { rng } = draft;
    const weekday = Math.floor(rng.between(0, 5));
    const at = rng.between(7, 11) * HOUR;
    eachDay(draft, (day, _isWorkday, number) => {
      if (number % 7 !== weekday) return;
      const from = day + at + rng.normal(0, 8 * MINUTE);
      bursts(draft, from, from + rng.between(1, 3) * HOUR, 10 * MINUTE);
    });
  },
  sporadic(draft) {
    const { rng } = draft;
    for (let at = START; at < draft.toMs; ) {
      at += rng.wait(30 * HOUR);
      const length = rng.between(2, 40) * MINUTE;
      bursts(draft, at, at + length, 4 * MINUTE);
      at += length;
    }
  },
  loaded(draft) {
    const { rng } = draft;
    for (let at = START; at < draft.toMs; ) {
      const length = rng.between(1, 6) * HOUR;
      draft.use(at, length, USE, Math.floor(length / (30 * SECOND)));
      at += length + rng.between(0, 2 * MINUTE);
    }
  },
};

/** Use, now and then, between two times. */
function bursts({ rng, use }: Draft, from: number, to: number, meanPause: number): void {
  for (let at = from; at < to; ) {
    const length = Math.min(to - at, 30 * SECOND + rng.wait(4 * MINUTE));
    use(at, length, USE, 1 + Math.floor(length / (20 * SECOND)));
    at += length + rng.wait(meanPause);
  }
}

/** Somebody logs in, types, reads, compiles; sometimes work runs on when they have gone. */
function session(draft: Draft, from: number): void {
  const { rng, use, work } = draft;
  let at = from;
  for (const end = from + rng.between(0.3, 3.5) * HOUR; at < end; ) {
    const typing = rng.between(0.5, 6) * MINUTE;
    use(at, typing, TYPING, 1 + Math.floor(typing / (20 * SECOND)));
    at += typing;
    if (rng.chance(0.25)) {
      const compiling = rng.between(1, 25) * MINUTE;
      work(at, compiling, COMPILING, true);
      at += compiling;
    }
    const reading = rng.between(0.2, 12) * MINUTE;
    work(at, reading, SILENT, true);
    at += reading;
  }
  if (!rng.chance(0.15)) return;
  for (const end = at + rng.between(0.5, 6) * HOUR; at < end; ) {
    const running = rng.between(1, 20) * MINUTE;
    work(at, running, LEFT_RUNNING, true);
    at += running;
    const waiting = Math.min(rng.between(0, 10) * MINUTE, Math.max(0, end - at));
    work(at, waiting, SILENT, true);
    at += waiting;
  }
}

/** Work that a timer starts, with stretches in which it only waits. */
function scheduledWork({ rng, work }: Draft, from: number, lengthMs: number): void {
  for (let at = from; at < from + lengthMs; ) {
    const running = rng.between(2, 15) * MINUTE;
    work(at, running, SCHEDULED, true);
    at += running;
    const waiting = rng.between(0, 12) * MINUTE;
    work(at, waiting, SCHEDULED_WAITING, true);
    at += waiting;
  }
}

/** What every guest does: a little work at odd times, and mostly a daily timer. */
function housekeeping(draft: Draft): void {
  const { rng, work } = draft;
  for (let at = START + rng.wait(8 * HOUR); at < draft.toMs; at += rng.wait(8 * HOUR)) {
    work(at, rng.between(10, 40) * SECOND, HICCUP, false);
  }
  if (!rng.chance(0.6)) return;
  const daily = rng.between(0, 24) * HOUR;
  eachDay(draft, (day) => {
    draft.timers.push({ name: 'apt-daily.timer', atMs: Math.round(day + daily) });
    work(day + daily, rng.between(0.5, 3) * MINUTE, SCHEDULED, true);
  });
}

function scans({ rng, toMs }: Draft): number[] {
  const at: number[] = [];
  for (let time = START + rng.wait(10 * HOUR); time < toMs; time += rng.wait(10 * HOUR))
    at.push(Math.round(time));
  return at;
}

function eachDay({ toMs }: Draft, draw: (day: number, isWorkday: boolean, number: number) => void): void {
  for (let number = 0; START + number * DAY < toMs; number++)
    draw(START + number * DAY, number % 7 < 5, number);
}

function pickKind(rng: Random): Kind {
  let left = rng.next() * 100;
  for (const [kind, share] of Object.entries(KINDS) as [Kind, number][]) {
    left -= share;
    if (left < 0) return kind;
  }
  return 'idle';
}
