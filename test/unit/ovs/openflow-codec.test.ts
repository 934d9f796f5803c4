import { describe, expect, test } from 'vitest';
import { decodeActions, encodeActions } from '../../../ovs/openflow/actions.ts';
import { ipv6ToBytes, ipv6ToText, macToBytes } from '../../../ovs/openflow/addresses.ts';
import { decodeMatch, encodeMatch, type Match } from '../../../ovs/openflow/match.ts';
import { encodeMessage, MESSAGE, MessageSplitter } from '../../../ovs/openflow/message.ts';

describe('matches', () => {
  const matches: Match[] = [
    {},
    { inPort: 3 },
    { ethDst: '52:54:00:00:00:02', ethType: 0x0800, ipProto: 6, tcpDst: 22 },
    { ethType: 0x0800, ipProto: 6, tcpSrc: 1, tcpDst: 65535, tcpFlags: { value: 2, mask: 0x12 } },
    { ethType: 0x86dd, ipv6Src: 'fd00::1', ipv6Dst: '2001:db8:1:2:3:4:5:6', ipProto: 17, udpDst: 53 },
    { ethType: 0x0806, arpOp: 1, arpSenderIp: '10.0.0.1', arpTargetIp: '10.0.0.255' },
  ];
  test.each(matches)('come back as they were written: %j', (match) => {
    const bytes = encodeMatch(match);
    expect(bytes.length % 8).toBe(0);
    expect(decodeMatch(bytes)).toEqual({ match, size: bytes.length });
  });

  test('refuse addresses that are none', () => {
    expect(() => macToBytes('52:54:00:00:00')).toThrow('expected an Ethernet address');
    expect(() => encodeMatch({ ipv4Src: '10.0.0.256' })).toThrow('expected an IPv4 address');
    expect(() => ipv6ToBytes('fe80::1%eth0')).toThrow('expected an IPv6 address');
  });

  test.each(['::', '::1', 'fd00::', '1:2:3:4:5:6:7:8', 'fd00::5:0:0:1'])(
    'keep the IPv6 address %s',
    (text) => {
      expect(ipv6ToText(ipv6ToBytes(text))).toBe(text);
    },
  );
});

test('actions come back as they were written', () => {
  const actions = [
    { type: 'output', port: 7 },
    { type: 'controller', maxBytes: 128 },
    { type: 'normal' },
  ] as const;
  expect(decodeActions(encodeActions(actions))).toEqual(actions);
});

describe('the splitter', () => {
  const first = encodeMessage({ type: MESSAGE.echoRequest, body: Buffer.from('abc') }, 1);
  const second = encodeMessage({ type: MESSAGE.barrierReply, body: Buffer.alloc(0) }, 2);

  test('finds messages however the stream is cut', () => {
    const stream = Buffer.concat([first, second]);
    for (let cut = 0; cut <= stream.length; cut++) {
      const splitter = new MessageSplitter();
      const messages = [...splitter.push(stream.subarray(0, cut)), ...splitter.push(stream.subarray(cut))];
      expect(messages.map(({ type, xid, body }) => [type, xid, body.toString()])).toEqual([
        [MESSAGE.echoRequest, 1, 'abc'],
        [MESSAGE.barrierReply, 2, ''],
      ]);
    }
  });

  test('refuses a length that is shorter than a header', () => {
    expect(() => new MessageSplitter().push(Buffer.from([5, 0, 0, 7, 0, 0, 0, 0]))).toThrow('got length 7');
  });
});
