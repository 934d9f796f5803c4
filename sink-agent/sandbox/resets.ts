/**
 * Which TCP resets may leave a sink. A segment of no connection is answered with one that bears no ACK, as the VM would; but not
 *  - while the sink is dumped: its sockets are gone, and a client would lose its connection;
 *  - where the connection is one that only the VM's kernel still has (TIME_WAIT, or closed by its process and not by the client yet):
 *    CRIU can't carry those, so the sink is silent, and the client goes on trying until the VM is back.
 * The answer to a request at a closed port bears an ACK, and always leaves.
 */
import { isIPv6 } from 'node:net';
import type { Exec } from '../../common/exec.ts';
import type { TcpConnection } from '../../criu/manifest.ts';
import { setPacketRules, TABLE } from './packet-rules.ts';

const CHAIN = 'resets';

/** Lines for `iptables-restore` that make the chain and lead resets to it; until `allowResets` none leaves. */
export const RESETS_JUDGED: readonly string[] = [
  `:${CHAIN} -`,
  `-A OUTPUT -p tcp --tcp-flags RST,ACK RST -j ${CHAIN}`,
  `-A ${CHAIN} -j DROP`,
];

/** Until `allowResets` none leaves. `pid` is a process in the sink's namespace. */
export async function judgeResets(pid: number): Promise<void> {
  const iptables = () => filterTable(RESETS_JUDGED);
  await setPacketRules(pid, { nft: judging(['drop']), iptables, besideOthers: true });
}

/** From now on none leaves. */
export async function muteResets(pid: number, quickly?: Exec): Promise<void> {
  const iptables = () => filterTable([`:${CHAIN} -`, `-A ${CHAIN} -j DROP`]);
  await setPacketRules(pid, { nft: judging(['drop']), iptables, besideOthers: true }, quickly);
}

/** From now on they leave, but for those of `lingering`. */
export async function allowResets(pid: number, lingering: readonly TcpConnection[] = []): Promise<void> {
  const iptables = (family: 4 | 6) => filterTable([`:${CHAIN} -`, ...silenceRules(lingering, family)]);
  await setPacketRules(pid, { nft: judging(silenceMatches(lingering)), iptables, besideOthers: true });
}

export function silenceRules(lingering: readonly TcpConnection[], family: 4 | 6): string[] {
  return lingering
    .filter(({ remote }) => isIPv6(remote.address) === (family === 6))
    .map(
      ({ local, remote }) =>
        `-A ${CHAIN} -p tcp --sport ${local.port} -d ${remote.address} --dport ${remote.port} -j DROP`,
    );
}

/** The same for nft. */
export function silenceMatches(lingering: readonly TcpConnection[]): string[] {
  return lingering.map(
    ({ local, remote }) =>
      `${isIPv6(remote.address) ? 'ip6' : 'ip'} daddr ${remote.address} tcp sport ${local.port} tcp dport ${remote.port} drop`,
  );
}

/** Whole each time, since an agent without nft may have made the sink. */
function judging(rules: readonly string[]): string[] {
  return [
    `add table ${TABLE}`,
    `add chain ${TABLE} leaving { type filter hook output priority filter; }`,
    `add chain ${TABLE} ${CHAIN}`,
    `flush chain ${TABLE} leaving`,
    `flush chain ${TABLE} ${CHAIN}`,
    ...rules.map((rule) => `add rule ${TABLE} ${CHAIN} ${rule}`),
    `add rule ${TABLE} leaving tcp flags & (rst | ack) == rst jump ${CHAIN}`,
  ];
}

function filterTable(rules: readonly string[]): string[] {
  return ['*filter', ...rules, 'COMMIT'];
}
