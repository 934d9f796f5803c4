/**
 * Tells systemd which process is the main one of a unit. systemd takes that only from the present main process (NotifyAccess=main),
 * so the message carries that one's credentials; a helper in C sends it, since Node can't.
 */
import { exec } from '../../common/exec.ts';

export interface MainPidMove {
  /** The unit's main process now; it must exist. */
  from: number;
  to: number;
}

/** @param helper the compiled notify-as.c. Returns once systemd has taken note of all; throws when one could not be sent. */
export async function moveMainPids(helper: string, moves: readonly MainPidMove[]): Promise<void> {
  if (moves.length === 0) return;
  await exec([helper, ...moves.flatMap(({ from, to }) => [String(from), `MAINPID=${to}`])], {
    env: { NOTIFY_SOCKET: '/run/systemd/notify' },
    timeoutMs: 10_000,
  });
}
