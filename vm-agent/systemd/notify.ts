/**
 * Tells systemd which process is the main one of a unit. systemd takes that only from the present main process (NotifyAccess=main),
 * so the message carries that one's credentials: root may send it in its name, `systemd-notify --pid` does.
 */
import { exec } from '../../common/exec.ts';

/** Makes `to` the main process of the unit whose main process is `from`; both must exist. Returns once systemd has taken note. */
export async function moveMainPid(from: number, to: number): Promise<void> {
  await exec(['systemd-notify', `--pid=${from}`, `MAINPID=${to}`], {
    env: { NOTIFY_SOCKET: '/run/systemd/notify' },
    timeoutMs: 10_000,
  });
}
