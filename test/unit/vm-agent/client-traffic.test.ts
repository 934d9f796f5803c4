import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { parseSent, sentTo } from '../../../vm-agent/client-traffic.ts';

test('what a client was sent is counted on its own connection, also by a server that listens on IPv6', async () => {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.write('x'.repeat(1000)));
  });
  server.listen(0, '::');
  await once(server, 'listening');
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  onTestFinished(() => {
    client.destroy();
    server.close();
  });
  await once(client, 'connect');
  const name = `127.0.0.1:${client.localPort}`;
  expect(await sentTo(name)).toBe(0);
  client.write('?');
  await once(client, 'data');
  expect(await sentTo(name)).toBe(1000);
});

test('a client without a connection, or that is none, was sent nothing that anybody knows', async () => {
  expect(await sentTo('127.0.0.1:1')).toBeNull();
  for (const nonsense of ['', 'localhost', '127.0.0.1', '127.0.0.1:99999', '-h:22', '127.0.0.1:22 or 1']) {
    expect(await sentTo(nonsense)).toBeNull();
  }
});

test('each of the ways in which ss writes a peer is understood', () => {
  const line = (peer: string, facts: string) =>
    `0  0  10.77.0.11:22  ${peer}  cubic wscale:7,7 ${facts} rto:204`;
  const listed = [
    line('203.0.113.7:51312', 'bytes_sent:10'),
    line('203.0.113.8:51312', 'bytes_sent:99'),
    line('[::ffff:203.0.113.9]:51312', 'bytes_sent:20'),
    line('[fd77::2]:51312', 'bytes_sent:30 bytes_retrans:5'),
    line('203.0.113.10:51312', 'segs_out:1'),
  ].join('\n');
  expect(parseSent(listed, '203.0.113.7:51312')).toBe(10);
  expect(parseSent(listed, '203.0.113.9:51312')).toBe(20);
  expect(parseSent(listed, '[fd77::2]:51312')).toBe(30);
  expect(parseSent(listed, '203.0.113.10:51312')).toBe(0);
  expect(parseSent(listed, '203.0.113.11:51312')).toBeNull();
});
