/**
 * The flow switch and the packet buffer under a stream of datagrams, on two real switches joined by VxLAN: what is lost, doubled, out of order,
 * and how much later the rest comes than without any change.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { PacketBuffer } from '../../orchestrator/packet-buffer/packet-buffer.ts';
import { DatapathControl } from '../../ovs/datapath.ts';
import { KeptConnection } from '../../ovs/openflow/kept-connection.ts';
import { Redirect } from '../../ovs/redirect.ts';
import { run, startTwoHosts, type TwoHosts, VM_IP, VM_MAC } from '../../test/integration/ovs/two-hosts.ts';
import { SOURCE } from './bed.ts';
import { type Passage, recordDatagrams } from './datagrams.ts';
import { startProgress } from './progress.ts';
import { percentile, round } from './statistics.ts';

export interface SwitchRow {
  method: 'no change' | 'ovs-ofctl' | 'bundle' | 'bundle + buffer';
  packetsPerSecond: number;
  sent: number;
  lost: number;
  duplicated: number;
  reordered: number;
  addedMsP99: number;
  /** Changes of direction meanwhile. */
  flips: number;
}

interface World {
  hosts: TwoHosts;
  redirect: Redirect;
  buffer: PacketBuffer;
}

/** What was held on purpose, until it was let go. */
type Hold = [fromMs: number, untilMs: number];

const RATES = [1000, 10_000];
const METHODS = ['no change', 'ovs-ofctl', 'bundle', 'bundle + buffer'] as const;
const BETWEEN_MS = 250;
/** As long as a restore takes. */
const HELD_MS = 150;
const PORT = 7100;
const BY_HAND = 'cookie=0xbe4c';
const PROGRAM = join(import.meta.dirname, 'datagrams.ts');

export async function switchCosts(quick: boolean): Promise<{ rows: SwitchRow[] }> {
  const seconds = quick ? 3 : 15;
  const progress = startProgress('switch', RATES.length * METHODS.length);
  const hosts = await startTwoHosts('slbsw');
  const vmBridge = new KeptConnection({ name: 'br-int of hv', connect: hosts.hv.connect }).start();
  const sinkBridge = new KeptConnection({ name: 'br-int of sink', connect: hosts.sink.connect }).start();
  const rows: SwitchRow[] = [];
  try {
    const common = { mac: VM_MAC, heldTcpPorts: [] };
    const redirect = new Redirect({
      ...common,
      ...{ vmName: 'vm1', vmBridge, sinkBridge },
      vmDatapath: new DatapathControl(hosts.hv.connectControl, { name: 'hv' }),
      sinkDatapath: new DatapathControl(hosts.sink.connectControl, { name: 'sink' }),
      ports: { vm: 'qvo-vm1', vmTunnel: 'vxlan0', sinkTunnel: 'vxlan0', sink: 'sink-vm1' },
    });
    const place = { tap: 'tap-vm1', bridge: 'qbr-vm1', uplink: 'qvb-vm1', queue: 45 };
    const program = join(SOURCE, 'build/packet-buffer');
    const buffer = new PacketBuffer({
      ...common,
      ...place,
      host: hosts.hv.host,
      program,
      vm: 'vm1',
      runDir: hosts.dir,
    });
    const world = { hosts, redirect, buffer };
    for (const packetsPerSecond of RATES) {
      let usualP99 = 0;
      for (const method of METHODS) {
        await redirect.toVm();
        const { row, p99 } = await stream(world, method, packetsPerSecond, seconds);
        if (method === 'no change') usualP99 = p99;
        rows.push({ ...row, addedMsP99: round(Math.max(0, p99 - usualP99)) });
        progress.advance(
          `${method}, ${packetsPerSecond}/s: ${row.lost} of ${row.sent} lost, ${row.flips} flips`,
        );
      }
    }
  } finally {
    await vmBridge.close();
    await sinkBridge.close();
    await hosts.stop();
  }
  progress.end();
  return { rows };
}

async function stream(world: World, method: SwitchRow['method'], packetsPerSecond: number, seconds: number) {
  const { hosts } = world;
  const undo: (() => Promise<unknown>)[] = [];
  const recordings = await Promise.all(
    [hosts.client, hosts.vm, hosts.stack].map(({ name, netns }) =>
      recordDatagrams(netns, PORT, join(hosts.dir, `${name}.pcap`)),
    ),
  );
  const stopRecording = () => Promise.all(recordings.map((end) => end()));
  let recorded: Passage[][] = [];
  const sent = packetsPerSecond * seconds;
  let flips = 0;
  const holds: Hold[] = [];
  try {
    const stream = [VM_IP, PORT, packetsPerSecond, sent].map(String);
    const sender = run(hosts.client, [process.execPath, PROGRAM, ...stream], undo);
    let isDone = false;
    const done = sender.line((seconds + 20) * 1000).then(() => {
      isDone = true;
    });
    while (!isDone) {
      await Promise.race([delay(BETWEEN_MS), done]);
      if (isDone || method === 'no change') continue;
      await flip(world, method, flips++ % 2 === 0 ? 'sink' : 'vm', holds);
    }
  } finally {
    recorded = await stopRecording();
    for (const step of undo.reverse()) await step();
    if (method === 'ovs-ofctl') await removeByHand(hosts);
    if (method === 'bundle + buffer') await world.buffer.disarm({ force: true });
  }
  const [departures = [], ...arrivals] = recorded;
  return judge(departures, arrivals.flat(), { method, packetsPerSecond, sent, flips }, holds);
}

async function flip(
  { hosts, redirect, buffer }: World,
  method: SwitchRow['method'],
  to: 'sink' | 'vm',
  holds: Hold[],
): Promise<void> {
  if (method === 'ovs-ofctl') return byHand(hosts, to);
  if (method === 'bundle') return void (await (to === 'sink' ? redirect.toSink() : redirect.toVm()));
  // As a park and an unpark do it.
  const from = nowMs();
  if (to === 'sink') {
    await buffer.arm();
    await delay(HELD_MS);
    await redirect.toSink();
    holds.push([from, nowMs()]);
    await buffer.divert();
  } else {
    await redirect.toVm(buffer.hold());
    await delay(HELD_MS);
    holds.push([from, nowMs()]);
    await buffer.release();
  }
}

/** The paper's way: one rule after the other, each by a program of its own. */
async function byHand({ hv, sink }: TwoHosts, to: 'sink' | 'vm'): Promise<void> {
  const match = `${BY_HAND},priority=2000,dl_dst=${VM_MAC}`;
  await sink.ofctl(
    'add-flow',
    `${sink.dir}/br-int.mgmt`,
    `${match},actions=output:${to === 'sink' ? '"sink-vm1"' : '"vxlan0"'}`,
  );
  await hv.ofctl(
    'add-flow',
    `${hv.dir}/br-int.mgmt`,
    `${match},actions=output:${to === 'sink' ? '"vxlan0"' : '"qvo-vm1"'}`,
  );
}

/** They would outrank ours. */
async function removeByHand({ hv, sink }: TwoHosts): Promise<void> {
  for (const host of [hv, sink]) await host.ofctl('del-flows', `${host.dir}/br-int.mgmt`, `${BY_HAND}/-1`);
}

type Told = Pick<SwitchRow, 'method' | 'packetsPerSecond' | 'sent' | 'flips'>;

/** Pure. What left and what arrived; `holds` do not count as delay. */
export function judge(
  departures: readonly Passage[],
  arrivals: readonly Passage[],
  told: Told,
  holds: readonly Hold[],
): { row: Omit<SwitchRow, 'addedMsP99'>; p99: number } {
  const sentAt = new Map(departures);
  const inOrder = arrivals.toSorted(([, a], [, b]) => a - b);
  const distinct = new Set(inOrder.map(([number]) => number));
  let [highest, reordered] = [-1, 0];
  const delays: number[] = [];
  for (const [number, receivedMs] of inOrder) {
    if (number < highest) reordered++;
    else highest = number;
    const sentMs = sentAt.get(number) ?? receivedMs;
    const hold = holds.find(([from, until]) => sentMs >= from && sentMs < until);
    delays.push(Math.max(0, receivedMs - (hold ? hold[1] : sentMs)));
  }
  const row = {
    ...told,
    lost: told.sent - distinct.size,
    duplicated: inOrder.length - distinct.size,
    reordered,
  };
  return { row, p99: percentile(delays, 99) };
}

/** As the kernel's times of recorded packets. */
function nowMs(): number {
  return performance.timeOrigin + performance.now();
}
