/** Whether this guest is a container: then its clock and its disks are the host's, and not ours to set or to count. */
import { existsSync } from 'node:fs';

/** systemd writes it. */
const MARK = '/run/systemd/container';

export function isContainer(): boolean {
  return existsSync(MARK);
}
