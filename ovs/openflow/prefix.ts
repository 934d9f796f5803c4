/** Sets of IP addresses: one address, or a prefix. */
import { isIPv4, isIPv6 } from 'node:net';
import { SeamlessError } from '../../common/errors.ts';
import { ipv4ToBytes, ipv4ToText, ipv6ToBytes, ipv6ToText } from './addresses.ts';

export interface Prefix {
  family: 4 | 6;
  /** Bits beyond the prefix are 0. */
  address: Buffer;
  /** Of the address's 32 or 128 bits, how many count. */
  bits: number;
}

/** Reads `203.0.113.7`, `10.0.0.0/8`, `fd00::/64`; throws `REQUEST_INVALID` for anything else. */
export function parsePrefix(text: string): Prefix {
  const [host = '', length, ...more] = text.split('/');
  const family = isIPv4(host) ? 4 : isIPv6(host) && !host.includes('%') ? 6 : null;
  const most = family === 4 ? 32 : 128;
  const bits = length === undefined ? most : /^\d{1,3}$/.test(length) ? Number(length) : -1;
  if (family === null || bits < 0 || bits > most || more.length > 0) {
    throw new SeamlessError(
      'REQUEST_INVALID',
      `expected an IP address or a prefix like 10.0.0.0/8, got ${JSON.stringify(text)}`,
    );
  }
  const mask = maskOf({ family, bits });
  const address = family === 4 ? ipv4ToBytes(host) : ipv6ToBytes(host);
  return { family, address: Buffer.from(address.map((byte, at) => byte & (mask[at] ?? 0))), bits };
}

/** The one way to write it: no length when it is a single address. */
export function prefixToText({ family, address, bits }: Prefix): string {
  const host = family === 4 ? ipv4ToText(address) : ipv6ToText(address);
  return bits === address.length * 8 ? host : `${host}/${bits}`;
}

export function maskOf({ family, bits }: Pick<Prefix, 'family' | 'bits'>): Buffer {
  return Buffer.from(
    Array.from({ length: family === 4 ? 4 : 16 }, (_byte, at) => {
      const here = Math.max(0, Math.min(8, bits - at * 8));
      return (0xff << (8 - here)) & 0xff;
    }),
  );
}

/** How many leading bits of a mask are set. */
export function bitsOfMask(mask: Buffer): number {
  const digits = [...mask].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return `${digits}0`.indexOf('0');
}
