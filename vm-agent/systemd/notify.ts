/**
 * Tells systemd which process is the main one of a unit. systemd takes that only from the present main process (NotifyAccess=main),
 * so the message carries that one's credentials; a helper in C sends it, since Node can't.
 */
import { exec } from '../../common/exec.ts';

/** Makes `to` the main process of the unit whose main process is `from`; both must exist. Returns once systemd has taken note. */
export async function moveMainPid(helper: string, from: number, to: number): Promise<void> {
  await exec([helper, String(from), `MAINPID=${to}`], {
    env: { NOTIFY_SOCKET: '/run/systemd/notify' },
    timeoutMs: 10_000,
  });
}
