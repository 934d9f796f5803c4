import { expect, it } from 'vitest';
import { countsOf, portsBetweenTrees } from '../../../vm-agent/checkpoint/traffic.ts';
import { gatewaySet } from '../../../vm-agent/gateway/closure.ts';
import { connected, guest, listening, OPTIONS } from './guest.ts';

it('connections between two services that move are told from those of one, by their ports', () => {
  const sockets = {
    1: listening(80),
    2: connected('127.0.0.1:5000', '127.0.0.1:9000'),
    3: connected('127.0.0.1:9000', '127.0.0.1:5000'),
    4: connected('127.0.0.1:5001', '127.0.0.1:9001'),
    5: connected('127.0.0.1:9001', '127.0.0.1:5001'),
    6: connected('10.0.0.11:80', '10.0.0.2:4000'),
  };
  const fds = [1, 2, 4, 5, 6].map((inode) => `socket:[${inode}]`);
  const snapshot = guest(
    [
      { pid: 200, fds },
      { pid: 300, fds: ['socket:[3]'] },
    ],
    sockets,
  );
  expect(portsBetweenTrees(gatewaySet(snapshot, OPTIONS), snapshot)).toEqual([5000, 9000]);
});

it('what a connection has carried is read from ss, and keep-alives are none of it', () => {
  const line = (segments: number) =>
    `ESTAB 0 0 127.0.0.1:5000 127.0.0.1:9000 cubic wscale:7,7 rto:201 mss:32768 bytes_sent:5 bytes_acked:6 bytes_received:9 segs_out:${segments}`;
  expect([...countsOf(`${line(4)}\n`)]).toEqual([
    ['127.0.0.1:5000 → 127.0.0.1:9000', 'bytes_sent:5 bytes_received:9'],
  ]);
  expect(countsOf(line(4))).toEqual(countsOf(line(7)));
});
