/**
 * A stream of numbered datagrams with the time of sending in each, and who receives it; both told by arguments, in a network namespace each:
 *   datagrams.ts send ADDRESS PORT PER-SECOND COUNT        says `done`
 *   datagrams.ts receive ADDRESS PORT FILE                 says `ready`; at its end (SIGTERM) writes [number, sent, received] of each to FILE
 * Times are milliseconds of the machine's monotonic clock, which all processes share.
 */
import { createSocket } from 'node:dgram';
import { writeFileSync } from 'node:fs';

export type Arrival = [number: number, sentMs: number, receivedMs: number];

const BYTES = 64;
const RECEIVE_BUFFER_BYTES = 8 << 20;

export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

function send(address: string, port: number, perSecond: number, count: number): void {
  const socket = createSocket('udp4');
  const startedAt = monotonicMs();
  let sent = 0;
  let left = count;
  const gone = () => {
    if (--left === 0) socket.close(() => process.stdout.write('done\n'));
  };
  const timer = setInterval(() => {
    const due = Math.min(count, Math.floor(((monotonicMs() - startedAt) * perSecond) / 1000));
    while (sent < due) {
      const datagram = Buffer.alloc(BYTES);
      datagram.writeUInt32BE(sent++, 0);
      datagram.writeDoubleBE(monotonicMs(), 4);
      socket.send(datagram, port, address, gone);
    }
    if (sent === count) clearInterval(timer);
  }, 1);
}

function receive(address: string, port: number, file: string): void {
  const arrivals: Arrival[] = [];
  const socket = createSocket({ type: 'udp4', recvBufferSize: RECEIVE_BUFFER_BYTES });
  socket.on('message', (datagram) => {
    arrivals.push([datagram.readUInt32BE(0), datagram.readDoubleBE(4), monotonicMs()]);
  });
  socket.bind(port, address, () => process.stdout.write('ready\n'));
  process.once('SIGTERM', () => {
    writeFileSync(file, JSON.stringify(arrivals));
    process.exit(0);
  });
}

if (process.argv[1] === import.meta.filename) {
  const [what, address = '', port, first = '', count] = process.argv.slice(2);
  if (what === 'send') send(address, Number(port), Number(first), Number(count));
  else receive(address, Number(port), first);
}
