import { expect, test } from 'vitest';
import { parsePacket } from '../../../demo/capture.ts';

test('a TCP data packet is read with its addresses, flags, sequence number and payload', () => {
  const line =
    '1700000000.123456 IP 10.77.0.2.51312 > 10.77.0.11.22: Flags [P.], seq 3012:3048, ack 99, win 501, options [nop,nop,TS val 1 ecr 2], length 36';
  expect(parsePacket(line)).toEqual({
    at: 1700000000.123456,
    protocol: 'tcp',
    source: '10.77.0.2',
    destination: '10.77.0.11',
    sourcePort: 51312,
    destinationPort: 22,
    flags: 'P.',
    sequence: 3012,
    length: 36,
    timestamp: { value: 1, echo: 2 },
  });
});

test.each([
  ['1.5 IP 10.77.0.11.22 > 10.77.0.2.4000: Flags [R], seq 5, win 0, length 0', 'R'],
  ['1.5 IP 10.77.0.11.22 > 10.77.0.2.4000: Flags [F.], seq 5, ack 7, win 0, length 0', 'F.'],
  ['1.5 IP6 fd77::11.22 > fd77::2.4000: Flags [R.], seq 0, ack 7, win 0, length 0', 'R.'],
])('resets and finishes are seen: %s', (line, flags) => {
  expect(parsePacket(line)).toMatchObject({ protocol: 'tcp', sourcePort: 22, destinationPort: 4000, flags });
});

test('echo requests and replies, and ARP, are told apart', () => {
  const reply = '1.5 IP 10.77.0.11 > 10.77.0.2: ICMP echo reply, id 7, seq 12, length 64';
  expect(parsePacket(reply)).toMatchObject({
    protocol: 'icmp',
    flags: 'reply',
    sequence: 12,
    source: '10.77.0.11',
  });
  const asked = '1.5 ARP, Request who-has 10.77.0.11 tell 10.77.0.2, length 28';
  expect(parsePacket(asked)).toMatchObject({ protocol: 'arp', flags: 'request', source: '10.77.0.2' });
  const answered = '1.5 ARP, Reply 10.77.0.11 is-at 52:54:00:77:00:01, length 28';
  expect(parsePacket(answered)).toMatchObject({ protocol: 'arp', flags: 'reply', source: '10.77.0.11' });
});

test('other lines are none of ours', () => {
  expect(parsePacket('1.5 IP 10.77.0.2.68 > 10.77.0.11.67: BOOTP/DHCP, Request, length 300')).toBeNull();
  expect(parsePacket('')).toBeNull();
});
