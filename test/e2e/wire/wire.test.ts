/**
 * A parked VM looks on the wire like an awake one: the same script of packets, sent by hand, against the real VM awake and parked, and what it sent
 * compared; then UDP, and readers that don't read. Everything is seen by tcpdump at the client's interface.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { awaitState, show } from '../fixtures/admin.ts';
import { differences, essence } from './fixtures/compare.ts';
import type { Connection } from './fixtures/connection.ts';
import { dnsAnswer, dnsQuery, RECORD, readDnsAnswer } from './fixtures/dns.ts';
import { type Family, ipBytes } from './fixtures/frames.ts';
import { GATEWAY, prepareScript, type Transcript } from './fixtures/script.ts';
import { bringUpLab, DNS_PORT, setStage, takeLabDown, VM, type WireStage } from './fixtures/stage.ts';

const WAKE_MS = 60_000;
const CYCLE_MS = 150_000;
/** Far enough from each other for all connections of a script. */
const PORTS = { awake: 20_000, parked: 21_000, slow: 22_000, udp: 23_000 } as const;
const ADDRESS = { memory4: '192.0.2.1', memory6: '2001:db8::1', far: '192.0.2.99' } as const;

/** What the sink can't do as the VM, whatever it is told; docs/wire.md has the reasons. `parked` is what it does instead. */
const KNOWN: readonly { probe: string; parked: (lines: string[]) => boolean }[] = [
  { probe: 'TIME_WAIT from before, and a late FIN', parked: (lines) => lines.length === 0 },
  { probe: 'a probe of the server’s closed window', parked: (lines) => lines.every(isAcknowledgment) },
  { probe: 'an acknowledgment of what was never sent', parked: (lines) => lines.every(isAcknowledgment) },
];

process.env['SEAMLESS_LAB'] ||= 'e2e';
const interrupted = new AbortController();
let stage: WireStage;

beforeAll(async () => {
  await bringUpLab(interrupted.signal);
  stage = await setStage();
}, 400_000);

afterAll(async () => {
  interrupted.abort();
  await stage?.close();
  await takeLabDown();
}, 120_000);

test(
  'what asks nothing of the VM is answered by its sink as by itself, wakes nobody, and leaves the connections usable',
  async () => {
    const { host } = stage;
    const first = await prepareScript(host, PORTS.awake);
    const awake = await first.run();
    const second = await prepareScript(host, PORTS.parked);
    await park();
    const parked = await second.run();
    const { state } = await show(VM);

    const [waker] = second.survivors;
    expect(await waker?.ask('wake', WAKE_MS)).toBe(VM);
    for (const connection of [...first.survivors, ...second.survivors]) {
      expect(await connection.ask('echo still here', WAKE_MS)).toBe('still here');
      expect(connection.isReset || connection.isEnded).toBe(false);
    }
    expect((await show(VM)).lastUnpark?.trigger).toMatchObject({ program: 'perl', syscall: 'openat' });
    await awaitState(VM, 'awake', WAKE_MS);

    expect(state).toBe('parked');
    const found = differences(awake, parked);
    const isKnown = ({ probe, parked: lines }: (typeof found)[number]) =>
      KNOWN.some((known) => probe.endsWith(known.probe) && known.parked(lines));
    expect(found.filter((difference) => !isKnown(difference))).toEqual([]);
    // A probe that nothing answers would be equal, too.
    expect(unanswered(awake)).toEqual(SILENT);
  },
  CYCLE_MS,
);

test(
  'who does not read gets each byte once and in order, wherever it waited; DNS from memory stays in the sink, what must be asked wakes',
  async () => {
    const { host } = stage;
    const slow = await openSlow(PORTS.slow);
    await park();

    // The sink sends some of what the VM had queued, and queues itself.
    slow.queued.setWindow(3000);
    await slow.queued.read(2800);
    slow.later.write('say 48000\n');
    await slow.later.acknowledged();
    slow.unread.write(numbered(1000, 2000));
    await slow.unread.acknowledged();
    await delay(500);
    expect(slow.later.received.length).toBe(0);

    expect(await askDns(4, PORTS.udp, 'memory.test', RECORD.a)).toEqual([ADDRESS.memory4]);
    expect(await askDns(6, PORTS.udp + 1, 'memory.test', RECORD.aaaa)).toEqual([ADDRESS.memory6]);
    expect((await show(VM)).state).toBe('parked');

    let asked = 0;
    host.serveUdp(DNS_PORT, (query) => {
      asked++;
      return dnsAnswer(query, ADDRESS.far);
    });
    expect(await askDns(4, PORTS.udp + 2, 'far.test', RECORD.a)).toEqual([ADDRESS.far]);
    expect(asked).toBe(1);
    await awaitState(VM, 'awake', WAKE_MS);
    expect((await show(VM)).lastUnpark?.trigger).toMatchObject({ program: 'dnsmasq' });

    for (const connection of [slow.queued, slow.later]) {
      connection.isSlow = false;
      connection.setWindow(65_535);
    }
    expect(await slow.queued.read(160_000, 0, WAKE_MS)).toBe(numbered(0, 20_000));
    expect(await slow.later.read(48_000, 0, WAKE_MS)).toBe(numbered(0, 6000));
    expect(await askUdp(4, PORTS.udp + 3, 'resume')).toEqual(['resumed']);
    expect(await slow.unread.read(16_000, 0, WAKE_MS)).toBe(numbered(0, 2000));
  },
  CYCLE_MS,
);

test(
  'a datagram that needs a file wakes the VM, which answers it once',
  async () => {
    await park();
    for (const family of [4, 6] as const) {
      expect(await askUdp(family, PORTS.udp + 10 + family, 'echo again')).toEqual(['again']);
    }
    expect((await show(VM)).state).toBe('parked');
    expect(await askUdp(6, PORTS.udp + 20, 'file')).toEqual([`${VM}\n`]);
    await awaitState(VM, 'awake', WAKE_MS);
    expect((await show(VM)).lastUnpark?.trigger).toMatchObject({ program: 'perl', syscall: 'openat' });
    expect(stage.host.datagrams(PORTS.udp + 20)).toHaveLength(1);
  },
  CYCLE_MS,
);

/** An emulated VM on a busy machine may not answer in time; then nothing has been touched, and it is asked again. */
async function park(): Promise<void> {
  await stage.service.park(VM).catch(async (error: unknown) => {
    await awaitState(VM, 'awake', WAKE_MS);
    process.stderr.write(`wire: parking again after: ${String(error)}\n`);
    await stage.service.park(VM);
  });
}

/** Probes to which the VM says nothing: that, too, must be the same. */
const SILENT = ['a FIN of no connection', 'a reset of no connection'].flatMap((name) => [
  `IPv4: ${name}`,
  `IPv6: ${name}`,
]);

function unanswered(transcript: Transcript): string[] {
  const silent = Object.entries(transcript).filter(([, lines]) => lines.length === 0);
  // Older kernels say nothing to this, newer ones acknowledge.
  const names = silent.map(([name]) => name).filter((name) => !name.endsWith('what was never sent'));
  return names.sort((a, b) => SILENT.indexOf(a) - SILENT.indexOf(b));
}

/** Connections whose data waits: unsent in the server's queue, unread in its receive queue, and, later, in the sink's. */
async function openSlow(port: number): Promise<Record<'queued' | 'unread' | 'later', Connection>> {
  const { host } = stage;
  const queued = await host.connect(4, port, GATEWAY.tcp);
  const unread = await host.connect(6, port + 1, GATEWAY.tcp);
  const later = await host.connect(6, port + 2, GATEWAY.tcp);
  for (const connection of [queued, later]) {
    connection.isSlow = true;
    connection.setWindow(0);
  }
  queued.write('say 160000\n');
  unread.write('hold\n');
  await Promise.all([queued.acknowledged(), unread.acknowledged()]);
  // Acknowledged by the kernel is not read by the gateway: what came now might be read along with `hold`. It has read it when it has
  // answered two others, one after the other.
  for (const turn of [3, 4]) await askUdp(4, port + turn, 'echo turn');
  unread.write(numbered(0, 1000));
  await unread.acknowledged();
  return { queued, unread, later };
}

/** Asks once; gives all answers that came until a second after the first. */
async function askUdp(family: Family, port: number, query: string | Buffer, to: number = GATEWAY.udp) {
  const { host } = stage;
  host.sendUdp(family, port, to, query);
  await host.until(`an answer to port ${port}`, () => host.datagrams(port).length > 0 || undefined, WAKE_MS);
  await delay(1000);
  return host.datagrams(port).map((data) => data.toString('latin1'));
}

async function askDns(family: Family, port: number, name: string, type: number): Promise<string[]> {
  const answers = await askUdp(family, port, dnsQuery(port, name, type), DNS_PORT);
  const known = Object.values(ADDRESS);
  return answers.map((text) => {
    const { id, address } = readDnsAnswer(Buffer.from(text, 'latin1'));
    const isKnown = (candidate: string) => ipBytes(candidate).equals(address);
    return id === port ? (known.find(isKnown) ?? address.toString('hex')) : `answer to ${id}`;
  });
}

function isAcknowledgment(line: string): boolean {
  return essence([line]).every((text) => / tcp ack seq -?\d+ ack -?\d+ /.test(text) && text.endsWith(']'));
}

/** The lines `from` … `to` - 1 that the gateway says, eight bytes each. */
function numbered(from: number, to: number): string {
  return Array.from({ length: to - from }, (_, index) => `${String(from + index).padStart(7, '0')}\n`).join(
    '',
  );
}
