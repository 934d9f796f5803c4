import { describe, expect, it } from 'vitest';
import { parseEndpoint, parseInet, parseMultipath, parseUnix } from '../../../vm-agent/gateway/sockets.ts';

const TCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1386 1 00000000a8be6dc7 100 0 0 10 0
   1: 0B004D0A:0016 02004D0A:C4F2 01 00000000:00000000 02:000A7D34 00000000     0        0 1432 2 0000000018cd9a3b 20 4 30 10 -1
   2: 0B004D0A:0016 02004D0A:C4F4 06 00000000:00000000 03:00000A7D 00000000     0        0 0 3 0000000018cd9a3b`;
const TCP6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1396 1 0 100 0 0 10 0
   1: 000077FD000000000000000011000000:0016 000077FD000000000000000002000000:C4F2 01 00000000:00000000 00:00000000 00000000     0        0 1500 1 0
   2: 0000000000000000FFFF00000B004D0A:0016 0000000000000000FFFF000002004D0A:C4F6 01 00000000:00000000 00:00000000 00000000     0        0 1501 1 0
   3: 00000000000000000000000001000000:0019 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1502 1 0`;
const UDP = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  100: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1700 2 0 0
  101: 0B004D0A:9C40 02004D0A:0035 01 00000000:00000000 00:00000000 00000000     0        0 1701 2 0 0`;
const SS = `u_str ESTAB  0      0                       /run/systemd/journal/stdout 1348 * 1347
u_str ESTAB  0      0                                                 * 1347 * 1348
u_dgr ESTAB  0      0                      /run/systemd/journal/dev-log 525  * 0
u_str LISTEN 0      4096                   /run/with space/sock 509  * 0
u_seq ESTAB  0      0            @d39e9969ff698e7c/bus/systemd-logind/system 1380 * 1381
u_str ESTAB  0      0                                                 * 1443 * 0   ---
u_str ESTAB  0      0                                                 * 1444 * 0   <->
u_str LISTEN 1      16     /run/victim/socket 5327235       * 0       <-> ino:16638603 dev:0/65024 peers: 1444`;

describe('sockets of a guest', () => {
  it('are read from /proc/net/tcp, without those that no process has', () => {
    expect(parseInet(TCP, 'tcp')).toEqual([
      [
        1386,
        {
          kind: 'inet',
          protocol: 'tcp',
          state: 'listening',
          local: { address: '0.0.0.0', port: 22 },
          remote: { address: '0.0.0.0', port: 0 },
          waiting: 0,
          multipath: false,
        },
      ],
      [
        1432,
        {
          kind: 'inet',
          protocol: 'tcp',
          state: 'connected',
          local: { address: '10.77.0.11', port: 22 },
          remote: { address: '10.77.0.2', port: 50418 },
          waiting: 0,
          multipath: false,
        },
      ],
    ]);
  });

  it('that listen know what waits to be taken: connections, or bytes of datagrams', () => {
    const waiting = (text: string) => text.replace('00000000:00000000 00:', '00000000:00000003 00:');
    expect(parseInet(waiting(TCP), 'tcp')[0]?.[1].waiting).toBe(3);
    expect(parseInet(waiting(UDP), 'udp')[0]?.[1].waiting).toBe(3);
  });

  it('are of multipath TCP when ss says so of their local end', () => {
    const lines = [
      'u_str LISTEN 0      4096 /run/sock 509  * 0',
      'mptcp LISTEN 0      16     0.0.0.0:7010 0.0.0.0:*',
      'mptcp LISTEN 0      16        [::]:80      [::]:*',
      'mptcp ESTAB  0      0  10.0.0.11:80 10.0.0.2:5000',
      'mptcp LISTEN 0      16        *:443      *:*',
    ];
    expect([...parseMultipath(`${lines.join('\n')}\n`)]).toEqual([
      ...['0.0.0.0:7010', ':::80', '10.0.0.11:80', ':::443'],
    ]);
  });

  it.each([
    ['000080FE00000000FF005450010078FE', 'fe80::5054:ff:fe78:1'],
    ['000000FD000000000000000011000000', 'fd00::11'],
    ['B80D0120100000000000000001000000', '2001:db8:0:10::1'],
    ['B80D0120000000000000010010000000', '2001:db8::1:0:0:10'],
  ])('have %s for %s, whatever a group beside the zeros ends in', (hex, address) => {
    expect(parseEndpoint(`${hex}:0035`).address).toBe(address);
  });

  it('have IPv6 addresses in their short form, and IPv4-mapped ones as IPv4', () => {
    const locals = parseInet(TCP6, 'tcp').map(([, { local }]) => local.address);
    expect(locals).toEqual(['::', 'fd77::11', '10.77.0.11', '::1']);
  });

  it('listen over UDP when they are bound and not connected', () => {
    expect(parseInet(UDP, 'udp').map(([inode, { state }]) => [inode, state])).toEqual([
      [1700, 'listening'],
      [1701, 'connected'],
    ]);
  });

  it('have their unix peers from ss, with paths that may hold spaces', () => {
    const sockets = new Map(parseUnix(SS));
    expect(sockets.get(1347)).toEqual({
      kind: 'unix',
      type: 'stream',
      listening: false,
      path: '',
      peer: 1348,
      pending: false,
      waiting: 0,
    });
    expect(sockets.get(1348)).toMatchObject({ path: '/run/systemd/journal/stdout', peer: 1347 });
    expect(sockets.get(525)).toMatchObject({ type: 'dgram', path: '/run/systemd/journal/dev-log', peer: 0 });
    expect(sockets.get(509)).toMatchObject({ listening: true, path: '/run/with space/sock' });
    expect(sockets.get(1380)).toMatchObject({
      type: 'seqpacket',
      path: '@d39e9969ff698e7c/bus/systemd-logind/system',
    });
    expect(sockets.get(1443)).toMatchObject({ peer: 0, pending: false });
    expect(sockets.get(1444)).toMatchObject({ peer: 0, pending: true });
    expect(sockets.get(5327235)).toMatchObject({ path: '/run/victim/socket', listening: true, waiting: 1 });
  });
});
