import { expect, test } from 'vitest';
import type { Packet } from '../../../demo/capture.ts';
import { quietFacts, wireFacts } from '../../../demo/observe.ts';

const VM = '10.77.0.11';
const CLIENT = '10.77.0.2';

function fromVm(at: number, flags: string, sequence: number, length = 0, port = 4000): Packet {
  const ports = { sourcePort: 22, destinationPort: port };
  return { at, protocol: 'tcp', source: VM, destination: CLIENT, ...ports, flags, sequence, length };
}

function ping(at: number, flags: 'request' | 'reply', sequence: number): Packet {
  const [source, destination] = flags === 'request' ? [CLIENT, VM] : [VM, CLIENT];
  const ports = { sourcePort: 0, destinationPort: 0 };
  return { at, protocol: 'icmp', source, destination, ...ports, flags, sequence, length: 64 };
}

test('resets, finishes and new handshakes on a client’s port are counted, others’ are not', () => {
  const packets = [
    fromVm(1, 'S.', 100),
    fromVm(2, 'P.', 101, 10),
    fromVm(3, 'R', 111),
    fromVm(4, 'F.', 111),
    fromVm(5, 'S.', 900),
    fromVm(6, 'R', 1, 0, 5000),
  ];
  expect(wireFacts(packets, VM, 4000)).toEqual({ resets: 1, fins: 1, reconnects: 1 });
});

test('a retransmitted handshake is no reconnect', () => {
  expect(wireFacts([fromVm(1, 'S.', 100), fromVm(2, 'S.', 100)], VM, 4000).reconnects).toBe(0);
});

test('only what happened while parked counts, and a late reply still answers its ping', () => {
  const packets = [
    ping(1, 'request', 1),
    ping(1.1, 'reply', 1),
    ping(2, 'request', 2),
    ping(2.1, 'reply', 2),
    ping(3, 'request', 3),
    fromVm(2.5, 'P.', 200, 36),
    fromVm(2.6, '.', 236, 0),
    ping(3.6, 'reply', 3),
  ];
  expect(quietFacts(packets, VM, 4000, 1.5, 3.5)).toEqual({
    pingsSent: 2,
    pingsAnswered: 2,
    arpsAnswered: 0,
    keepalivesAnswered: 1,
  });
});

test('an unanswered ping is seen', () => {
  expect(quietFacts([ping(2, 'request', 2)], VM, 4000, 1, 3)).toMatchObject({
    pingsSent: 1,
    pingsAnswered: 0,
  });
});
