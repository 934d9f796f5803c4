/** Ethernet and IP addresses between text and the bytes on the wire. */
import { isIPv4, isIPv6 } from 'node:net';
import { SeamlessError } from '../../common/errors.ts';

/** `52:54:00:12:34:56` → 6 bytes. */
export function macToBytes(mac: string): Buffer {
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac)) throw invalid('an Ethernet address', mac);
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

export function macToText(bytes: Buffer): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** `10.0.0.1` → 4 bytes. */
export function ipv4ToBytes(address: string): Buffer {
  if (!isIPv4(address)) throw invalid('an IPv4 address', address);
  return Buffer.from(address.split('.').map(Number));
}

export function ipv4ToText(bytes: Buffer): string {
  return [...bytes].join('.');
}

/** `fd00::1` → 16 bytes. */
export function ipv6ToBytes(address: string): Buffer {
  if (!isIPv6(address) || address.includes('%')) throw invalid('an IPv6 address', address);
  // The URL parser also turns an embedded IPv4 part into hex groups.
  const canonical = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [head = '', tail] = canonical.split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups = [...front, ...Array<string>(8 - front.length - back.length).fill('0'), ...back];
  return Buffer.from(groups.map((group) => group.padStart(4, '0')).join(''), 'hex');
}

export function ipv6ToText(bytes: Buffer): string {
  const groups = bytes.toString('hex').match(/.{4}/g) ?? [];
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}

function invalid(expected: string, got: string): SeamlessError {
  return new SeamlessError('REQUEST_INVALID', `expected ${expected}, got ${JSON.stringify(got)}`);
}
