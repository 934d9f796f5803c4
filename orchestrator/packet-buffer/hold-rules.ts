/**
 * The netfilter rules that send a VM's packets to its packet buffer, where they enter the bridge of its tap.
 *
 * At the entrance, because a bridge drops what is for a port without a carrier: a tap has none while its QEMU is gone, as with a
 * VM that is suspended to disk, and the packets must wait all the same.
 * They stand in the mangle table: a verdict from the queue ends only the table it was given in, so that a cloud's
 * security groups (filter table) still judge every packet that is released. What is not unicast is dropped while
 * packets are held: ARP and neighbour requests are answered by the sink, and the rest would be stale.
 */
import type { HostTransport } from '../host/transport.ts';

export interface HoldTarget {
  /** Names the rules' owner; the comment `seamless:NAME` is how they are found again. */
  vm: string;
  /** The port of the tap's Linux bridge by which the VM's packets come in. */
  uplink: string;
  queue: number;
}

const FAMILIES = ['iptables', 'ip6tables'] as const;
type Family = (typeof FAMILIES)[number];
/** Seconds to wait for another user of iptables. */
const LOCK = ['-w', '5'] as const;

/** Puts the rules in, for IPv4 and IPv6; leaves them alone when they are there already. */
export async function ensureHoldRules(host: HostTransport, target: HoldTarget): Promise<void> {
  await eachFamily(async (family) => {
    const there = await ownRules(host, family, target.vm);
    const wanted = rulesFor(target);
    const right = there.length === wanted.length && there.every((rule) => concerns(rule, target));
    if (!right) await restore(host, family, [...there.map(deletion), ...wanted.map((rule) => `-I ${rule}`)]);
  });
}

/** Takes out whatever rules the VM has; none is fine. */
export async function removeHoldRules(host: HostTransport, vm: string): Promise<void> {
  await eachFamily(async (family) => {
    const there = await ownRules(host, family, vm);
    if (there.length > 0) await restore(host, family, there.map(deletion));
  });
}

function rulesFor({ vm, uplink, queue }: HoldTarget): string[] {
  const entering = `PREROUTING -m physdev --physdev-in ${uplink}`;
  const comment = `-m comment --comment ${JSON.stringify(`seamless:${vm}`)}`;
  return [
    // Should the buffer die, the packets go on to the VM rather than nowhere.
    `${entering} -m pkttype --pkt-type unicast ${comment} -j NFQUEUE --queue-num ${queue} --queue-bypass`,
    `${entering} -m pkttype ! --pkt-type unicast ${comment} -j DROP`,
  ];
}

/** The VM's rules as `iptables -S` writes them: `-A PREROUTING …`; also what an older version has left in FORWARD. */
async function ownRules(host: HostTransport, family: Family, vm: string): Promise<string[]> {
  const { stdout } = await host.run([family, ...LOCK, '-t', 'mangle', '-S']);
  const comment = new RegExp(`--comment "?seamless:${vm.replaceAll(/[^\w]/g, '\\$&')}"? `);
  return stdout.split('\n').filter((line) => comment.test(line));
}

function concerns(rule: string, { uplink, queue }: HoldTarget): boolean {
  return (
    rule.includes(` --physdev-in ${uplink} `) &&
    (/ -j DROP$/.test(rule) || rule.includes(`--queue-num ${queue} `))
  );
}

function deletion(rule: string): string {
  return rule.replace(/^-A/, '-D');
}

/** One atomic change of the table. */
async function restore(host: HostTransport, family: Family, commands: readonly string[]): Promise<void> {
  const input = ['*mangle', ...commands, 'COMMIT', ''].join('\n');
  await host.run([`${family}-restore`, ...LOCK, '--noflush'], { input });
}

async function eachFamily(change: (family: Family) => Promise<void>): Promise<void> {
  await Promise.all(FAMILIES.map(change));
}
