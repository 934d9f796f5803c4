/**
 * Which TCP resets may leave a sink. A segment of no connection is answered with one that bears no ACK, as the VM would; but not
 *  - while the sink is dumped: its sockets are gone, and a client would lose its connection;
 *  - where the connection is one that only the VM's kernel still has (TIME_WAIT, or closed by its process and not by the client yet):
 *    CRIU can't carry those, so the sink is silent, and the client goes on trying until the VM is back.
 * The answer to a request at a closed port bears an ACK, and always leaves.
 */
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import { type Exec, exec } from '../../common/exec.ts';
import type { TcpConnection } from '../../criu/manifest.ts';

const CHAIN = 'resets';

/** Lines for `iptables-restore` that make the chain and lead resets to it; until `allowResets` none leaves. */
export const RESETS_JUDGED: readonly string[] = [
  `:${CHAIN} -`,
  `-A OUTPUT -p tcp --tcp-flags RST,ACK RST -j ${CHAIN}`,
  `-A ${CHAIN} -j DROP`,
];

/** Until `allowResets` none leaves. `pid` is a process in the sink's namespace. */
export async function judgeResets(pid: number): Promise<void> {
  await restoreRules(pid, () => [...RESETS_JUDGED]);
}

/** From now on none leaves. */
export async function muteResets(pid: number, quickly: Exec = exec): Promise<void> {
  await restoreRules(pid, () => [`:${CHAIN} -`, `-A ${CHAIN} -j DROP`], quickly);
}

/** From now on they leave, but for those of `lingering`. */
export async function allowResets(pid: number, lingering: readonly TcpConnection[] = []): Promise<void> {
  await restoreRules(pid, (family) => [`:${CHAIN} -`, ...silenceRules(lingering, family)]);
}

export function silenceRules(lingering: readonly TcpConnection[], family: 4 | 6): string[] {
  return lingering
    .filter(({ remote }) => isIPv6(remote.address) === (family === 6))
    .map(
      ({ local, remote }) =>
        `-A ${CHAIN} -p tcp --sport ${local.port} -d ${remote.address} --dport ${remote.port} -j DROP`,
    );
}

/** Both families by one command: the agent's memory is large, and each start of one takes it milliseconds in which it does nothing else. */
async function restoreRules(
  pid: number,
  rules: (family: 4 | 6) => string[],
  run: Exec = exec,
): Promise<void> {
  const [four, six] = ([4, 6] as const).map((family) => `*filter\n${rules(family).join('\n')}\nCOMMIT\n`);
  const script = join(import.meta.dirname, '..', 'inside', 'restore-rules.sh');
  await run(['nsenter', '--target', String(pid), '--net', 'sh', script, four ?? '', six ?? '']);
}
