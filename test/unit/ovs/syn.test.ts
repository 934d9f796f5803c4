import { expect, test } from 'vitest';
import { parseSyn } from '../../../ovs/syn.ts';

const MACS = '525400000002' + '525400000001';
const IPV4 = '4500002800010000400600000a0700010a070002';
const IPV6 = '6000000000140640fd070000000000000000000000000001fd070000000000000000000000000002';
const tcp = (flags: string) => `c350001600000001000000005${'0'}${flags}ffff00000000`;

const frame = (hex: string) => Buffer.from(hex, 'hex');

test('an IPv4 SYN tells its addresses', () => {
  expect(parseSyn(frame(`${MACS}0800${IPV4}${tcp('02')}`))).toEqual({
    source: '10.7.0.1',
    sourcePort: 50000,
    destination: '10.7.0.2',
    port: 22,
  });
});

test('so does one with a VLAN tag, and one over IPv6', () => {
  expect(parseSyn(frame(`${MACS}8100000a0800${IPV4}${tcp('02')}`))?.port).toBe(22);
  expect(parseSyn(frame(`${MACS}86dd${IPV6}${tcp('02')}`))).toEqual({
    source: 'fd07::1',
    sourcePort: 50000,
    destination: 'fd07::2',
    port: 22,
  });
});

test('what is no SYN, or is cut before its ports, is nothing', () => {
  expect(parseSyn(frame(`${MACS}0800${IPV4}${tcp('12')}`))).toBeUndefined();
  expect(parseSyn(frame(`${MACS}0800${IPV4}${tcp('02').slice(0, 12)}`))).toBeUndefined();
  expect(parseSyn(frame(`${MACS}0806${IPV4}${tcp('02')}`))).toBeUndefined();
  for (let length = 0; length < 54; length++) {
    expect(() => parseSyn(frame(`${MACS}0800${IPV4}${tcp('02')}`).subarray(0, length))).not.toThrow();
  }
});
