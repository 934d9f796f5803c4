/**
 * Netfilter rules in a sink's network namespace, by nft where this host's kernel has all that they need (Debian's has), else by iptables.
 * Which of the two is found out once, by making a queue in a namespace that ends with the question.
 */
import { join } from 'node:path';
import { type Exec, exec } from '../../common/exec.ts';

export interface PacketRules {
  /** What `nft -f` reads: one change of one table for both families. */
  nft: readonly string[];
  /** What `iptables-restore` reads. */
  iptables: (family: 4 | 6) => readonly string[];
  /** With iptables: leave what else is in the tables. */
  besideOthers: boolean;
}

export type PacketFilter = 'nft' | 'iptables';

/** The table of all of a sink's rules. */
export const TABLE = 'inet seamless';

let known: Promise<PacketFilter> | undefined;

/** What this host's rules are made with. */
export function packetFilter(): Promise<PacketFilter> {
  known ??= exec(['unshare', '--net', 'nft', '-f', '-'], { input: lines(PROBE) }).then(
    () => 'nft',
    () => 'iptables',
  );
  return known;
}

/** Makes the rules in the namespace of process `pid`: one command, since each start of one holds up everybody else for milliseconds. */
export async function setPacketRules(pid: number, rules: PacketRules, run: Exec = exec): Promise<void> {
  const inside = ['nsenter', '--target', String(pid), '--net'] as const;
  if ((await packetFilter()) === 'nft') {
    await run([...inside, 'nft', '-f', '-'], { input: lines(rules.nft) });
    return;
  }
  const script = join(import.meta.dirname, '..', 'inside', 'restore-rules.sh');
  const how = rules.besideOthers ? '--noflush' : '';
  await run([...inside, 'sh', script, lines(rules.iptables(4)), lines(rules.iptables(6)), how]);
}

function lines(rules: readonly string[]): string {
  return `${rules.join('\n')}\n`;
}

const PROBE = [
  `add table ${TABLE}`,
  `add chain ${TABLE} gate { type filter hook input priority mangle; }`,
  `add chain ${TABLE} checks { type nat hook prerouting priority dstnat; }`,
  `add rule ${TABLE} gate tcp flags & (fin | syn | rst | ack) == syn queue num 0`,
  `add rule ${TABLE} gate ct status & dnat != dnat reject with tcp reset`,
  `add rule ${TABLE} checks tcp dport 1 redirect to :2`,
];
