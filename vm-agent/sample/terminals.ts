/** People at terminals: when they typed last, and what runs in the foreground for them. */

/** What is needed of a process; numbers as in /proc/PID/stat. */
export interface TerminalProcess {
  pid: number;
  parent: number;
  program: string;
  processGroup: number;
  /** Device number of its controlling terminal; 0 for none. */
  terminal: number;
  /** The process group in the terminal's foreground. */
  foreground: number;
  /** All its threads wait for others without a deadline (waiting.ts). Asked only of those in a foreground. */
  isWaiting(): boolean;
}

export interface Session {
  /** `pts/0`, `ttyS0`. */
  terminal: string;
  /** Since somebody typed, at least (`sinceTyped`). */
  idleMs: number;
}

const SCHEDULERS = new Set(['cron', 'crond', 'atd', 'anacron']);

/** @param idleMs of a terminal, by name; null when it is gone */
export function sessionsOf(
  processes: readonly TerminalProcess[],
  idleMs: (terminal: string) => number | null,
): Session[] {
  const names = new Set(
    processes.map(({ terminal }) => terminalName(terminal)).filter((name) => name !== null),
  );
  return [...names].flatMap((terminal) => {
    const idle = idleMs(terminal);
    return idle === null ? [] : [{ terminal, idleMs: Math.max(0, idle) }];
  });
}

/**
 * Names of programs that run for somebody: in the foreground of a terminal, unless they only wait for input, as an idle shell does; and
 * what a scheduler has started.
 * @param scheduledUnits services that a timer starts; @param unitOf a process's unit
 */
export function jobsOf(
  processes: readonly TerminalProcess[],
  scheduledUnits: ReadonlySet<string>,
  unitOf: (pid: number) => string | null,
): string[] {
  const byPid = new Map(processes.map((process) => [process.pid, process]));
  const isScheduled = ({ pid, parent, program }: TerminalProcess) => {
    if (SCHEDULERS.has(program)) return false;
    for (let at = byPid.get(parent), depth = 0; at && depth < 64; at = byPid.get(at.parent), depth++) {
      if (SCHEDULERS.has(at.program)) return true;
    }
    return scheduledUnits.size > 0 && scheduledUnits.has(unitOf(pid) ?? '');
  };
  const isForeground = ({ terminal, processGroup, foreground }: TerminalProcess) =>
    terminal !== 0 && processGroup === foreground;
  return processes
    .filter((process) => (isForeground(process) && !process.isWaiting()) || isScheduled(process))
    .map(({ program }) => program);
}

/** The kernel writes a terminal's time of access only when it comes into another eight seconds since the epoch (tty_update_time). */
const ACCESS_TIME_STEP_MS = 8000;

/** Pure. How long nobody has typed for sure: the last key may have come as late as the end of the eight seconds that are noted. */
export function sinceTyped(accessedMs: number, nowMs: number): number {
  const atLatestMs = (Math.floor(accessedMs / ACCESS_TIME_STEP_MS) + 1) * ACCESS_TIME_STEP_MS;
  return Math.max(0, nowMs - atLatestMs);
}

/** The name below /dev of a terminal's device number. */
export function terminalName(device: number): string | null {
  const major = (device >> 8) & 0xfff;
  const minor = (device & 0xff) | ((device >> 12) & 0xfff00);
  if (major >= 136 && major <= 143) return `pts/${(major - 136) * 256 + minor}`;
  if (major === 4) return minor < 64 ? `tty${minor}` : `ttyS${minor - 64}`;
  return major === 229 ? `hvc${minor}` : null;
}
