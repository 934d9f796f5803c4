/**
 * Gives the VM what reached its sink and nobody has taken: connection requests that the filter's gate has not answered, and datagrams that
 * wait unread, which CRIU drops. They are sent again from here, once the flows lead to the VM and the processes are in an image: by
 * then nobody else will answer them. What is lost on this way, a client sends again, as it would on any network.
 */
import { exec } from '../common/exec.ts';
import type { NetworkInterface } from '../criu/manifest.ts';
import type { ProcessIdentity } from './sandbox/process.ts';
import { AGENT_FOLDER, enter } from './sandbox/sandbox.ts';

/** In hexadecimal: the Ethernet address that it came from, zeros when that is not known, and the packet from its IP header on. */
export interface ReturnedPacket {
  mac: string;
  packet: string;
}

/** Copies the unread datagrams of the frozen processes in `cgroup`. Nothing may reach the sink any more, or it is missed. */
export async function unreadDatagrams(filterBinary: string, cgroup: string): Promise<ReturnedPacket[]> {
  const { stdout } = await exec([filterBinary, '--cgroup', cgroup, '--unread']);
  const lines = stdout.split('\n').filter((line) => line !== '');
  return lines.map((line) => {
    const { mac, packet } = JSON.parse(line) as ReturnedPacket;
    return { mac, packet };
  });
}

/** In place of an address that is not known; not the VM's own, or a bridge would look for the VM here. */
const UNKNOWN_SENDER = '025ea11e5500';

export async function returnPackets(
  init: ProcessIdentity,
  device: NetworkInterface,
  packets: readonly ReturnedPacket[],
): Promise<void> {
  if (packets.length === 0) return;
  const [program = '', ...rest] = enter(init);
  const input = packets.map((packet) => `${frameOf(device, packet)}\n`).join('');
  await exec([program, ...rest, `${AGENT_FOLDER}/programs/return-packets.pl`, device.name], { input });
}

/** The Ethernet frame to the VM, in hexadecimal. */
export function frameOf(
  { mac }: Pick<NetworkInterface, 'mac'>,
  { mac: from, packet }: ReturnedPacket,
): string {
  const sender = /^0*$/.test(from) ? UNKNOWN_SENDER : from;
  return `${mac.replaceAll(':', '')}${sender}${packet.startsWith('6') ? '86dd' : '0800'}${packet}`;
}
