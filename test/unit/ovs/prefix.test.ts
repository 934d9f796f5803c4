import { expect, test } from 'vitest';
import { decodeMatch, encodeMatch } from '../../../ovs/openflow/match.ts';
import { parsePrefix, prefixToText } from '../../../ovs/openflow/prefix.ts';

const written = (text: string) => prefixToText(parsePrefix(text));

test('a prefix has one way to be written: bits beyond it are cut off, a single address has no length', () => {
  expect(['10.1.2.3', '10.1.2.3/32', '10.1.2.3/20', 'FD00:0::1', 'fd00::1:0/111'].map(written)).toEqual([
    ...['10.1.2.3', '10.1.2.3', '10.1.0.0/20', 'fd00::1', 'fd00::/111'],
  ]);
});

test.each(['10.0.0', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', 'fe80::1%eth0', 'fd00::/129', 'host'])(
  '%s is refused, and the message says what is expected',
  (text) => {
    expect(() => parsePrefix(text)).toThrow('expected an IP address or a prefix like 10.0.0.0/8');
  },
);

test.each([
  { ethType: 0x0800, ipv4Src: '10.1.0.0/20' },
  { ethType: 0x86dd, ipv6Src: 'fd00::/111' },
  { ethType: 0x86dd, ipv6Src: 'fd00::1' },
])('a match of a source prefix is read back as it was written: %o', (match) => {
  expect(decodeMatch(encodeMatch(match)).match).toEqual(match);
});
