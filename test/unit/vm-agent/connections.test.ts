import { expect, test } from 'vitest';
import { lingeringConnections, withClients } from '../../../vm-agent/checkpoint/connections.ts';
import type { Process } from '../../../vm-agent/gateway/snapshot.ts';
import type { InetSocket } from '../../../vm-agent/gateway/sockets.ts';

const HEAD =
  '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode';
const line = (local: string, remote: string, state: string, inode: number) =>
  `   0: ${local} ${remote} ${state} 00000000:00000000 00:00000000 00000000     0        0 ${inode} 1`;

test('connections that only the kernel still has are those without a process that are ending', () => {
  const table = [
    HEAD,
    line('0B00000A:0050', '0500000A:0FA0', '06', 0), // TIME_WAIT
    line('0B00000A:0050', '0500000A:0FA1', '05', 0), // FIN_WAIT2
    line('0B00000A:0050', '0500000A:0FA2', '05', 77), // of a process
    line('0B00000A:0050', '0500000A:0FA3', '01', 0), // not accepted yet
    line('0B00000B:0050', '0500000A:0FA4', '06', 0), // another network's
  ].join('\n');
  const found = lingeringConnections(['10.0.0.11'], [table]);
  expect(found.map(({ remote }) => remote)).toEqual([
    { address: '10.0.0.5', port: 4000 },
    { address: '10.0.0.5', port: 4001 },
  ]);
});

test('a port’s clients are named once, beside its first listener', () => {
  const listener = { protocol: 'tcp' as const, pid: 7, program: 'httpd' };
  const listeners = [
    { ...listener, address: '0.0.0.0', port: 80 },
    { ...listener, address: '::', port: 80 },
    { ...listener, address: '0.0.0.0', port: 81 },
  ];
  const remote = { address: '10.0.0.5', port: 4000 };
  const connected: InetSocket = {
    ...{ kind: 'inet', protocol: 'tcp', state: 'connected', waiting: 0, multipath: false, remote },
    local: { address: '10.0.0.11', port: 80 },
  };
  const descriptors = [3, 4].map((fd) => ({ fd, target: 'socket:[9]' }));
  const processes = [{ pid: 7, descriptors } as unknown as Process];
  const found = withClients(listeners, processes, new Map([[9, connected]]));
  expect(found.map(({ clients }) => clients)).toEqual([[remote], undefined, undefined]);
});
