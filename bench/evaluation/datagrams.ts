/**
 * A stream of numbered datagrams, and what passed of it on a wire. The stream's program is told by arguments, in a network namespace:
 *   datagrams.ts ADDRESS PORT PER-SECOND COUNT        says `done`
 * The kernel says when each passed: a receiver in a scripting language would be late for thousands a second, and lose some itself.
 */
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { SeamlessError } from '../../common/errors.ts';
import { listening } from '../../demo/capture.ts';

/** `atMs`: since the epoch. */
export type Passage = [number: number, atMs: number];

const BYTES = 64;
const QUIET_MS = 1000;
const ENDS_MS = 20_000;
/** Of the kernel's ring for the recording, in KiB: seconds of what the fastest stream sends. */
const RING_KIB = 16_384;
/** Ethernet, IPv4, UDP, and the number. */
const SNAPSHOT_BYTES = 14 + 20 + 8 + 4;

/** @returns what ends the recording when nothing passes any more, and gives it, in the order of passing */
export async function recordDatagrams(
  netns: string,
  port: number,
  file: string,
): Promise<() => Promise<Passage[]>> {
  const options = ['-i', 'eth0', '-n', '-U', '-B', `${RING_KIB}`, '-s', `${SNAPSHOT_BYTES}`, '-w', file];
  const child = spawn('nsenter', [`--net=${netns}`, '--', 'tcpdump', ...options, `udp dst port ${port}`], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  await listening(child);
  return async () => {
    await quiet(file);
    const closed = once(child, 'close');
    child.kill('SIGINT');
    await closed;
    if (!/^0 packets dropped by kernel/m.test(said))
      throw new SeamlessError(
        'COMMAND_FAILED',
        `Expected a whole recording of ${netns}, got: ${said.trim()}`,
      );
    return readRecording(file);
  };
}

/** Whatever holds packets back on a busy machine has let them go by then. */
async function quiet(file: string): Promise<void> {
  const deadline = performance.now() + ENDS_MS;
  for (let [before, now] = [-1, 0]; now !== before && performance.now() < deadline; ) {
    before = now;
    await delay(QUIET_MS);
    now = (await stat(file)).size;
  }
}

async function readRecording(file: string): Promise<Passage[]> {
  const child = spawn('tcpdump', ['-r', file, '-n', '-tt', '-x'], { stdio: ['ignore', 'pipe', 'ignore'] });
  const passages: Passage[] = [];
  let atMs = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    const seconds = /^(\d+\.\d+) IP /.exec(line)?.[1];
    if (seconds) atMs = Number(seconds) * 1000;
    // From the IP header on, 16 bytes a line: the payload begins at the 29th.
    const second = /^\s+0x0010:((?:\s+[0-9a-f]{4}){8})/.exec(line)?.[1];
    if (second) passages.push([Number.parseInt(second.replaceAll(/\s/g, '').slice(-8), 16), atMs]);
  }
  return passages;
}

function send(address: string, port: number, perSecond: number, count: number): void {
  const socket = createSocket('udp4');
  const startedAt = performance.now();
  let sent = 0;
  let left = count;
  const gone = () => {
    if (--left === 0) socket.close(() => process.stdout.write('done\n'));
  };
  const timer = setInterval(() => {
    const due = Math.min(count, Math.floor(((performance.now() - startedAt) * perSecond) / 1000));
    while (sent < due) {
      const datagram = Buffer.alloc(BYTES);
      datagram.writeUInt32BE(sent++, 0);
      socket.send(datagram, port, address, gone);
    }
    if (sent === count) clearInterval(timer);
  }, 1);
}

if (process.argv[1] === import.meta.filename) {
  const [address = '', ...numbers] = process.argv.slice(2);
  const [port = 0, perSecond = 0, count = 0] = numbers.map(Number);
  send(address, port, perSecond, count);
}
