/**
 * Does a client's packet reach a sink, and does the answer come back? Asked of the network itself while the sink's port is closed to
 * everybody else and the VM still serves: nothing is held, and nothing has to be taken back when there is no answer.
 *
 *   VM's bridge ── tunnel ──► sink server's bridge ──► sink: its kernel answers, no process is there yet
 *       ▲ packet-in                                     │
 *       └────────────────────── tunnel ◄────────────────┘
 *
 * The probe is as long as a full packet of the VM, because a tunnel whose network has too small an MTU passes short ones alone: a client
 * would connect and then hang. It is sent again until it is answered: a switch drops what it has no neighbour for yet.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { SeamlessError } from '../common/errors.ts';
import { flowMaker, ownFlows } from './flows.ts';
import { macToBytes } from './openflow/addresses.ts';
import { commitBundle } from './openflow/bundle.ts';
import type { OpenFlowConnection } from './openflow/connection.ts';
import { added, type FlowChange, type FlowSpec } from './openflow/flow-mod.ts';
import { portNumbers, readFlows } from './openflow/multipart.ts';
import { encodePacketOut } from './openflow/packet.ts';
import { probeFrame, probeMac } from './probe-frame.ts';
import type { RedirectOptions } from './redirect.ts';

export interface PathProbeOptions
  extends Pick<
    RedirectOptions,
    'vmName' | 'mac' | 'vmBridge' | 'sinkBridge' | 'vmDatapath' | 'sinkDatapath' | 'timeoutMs'
  > {
  /** Names of ports. */
  ports: { vmTunnel: string; sinkTunnel: string; sink: string };
  /** The VM's, which its sink has too, without a prefix length. */
  address: string;
  /** Of the VM's interface, in bytes. */
  mtu: number;
  /** Milliseconds for an answer; 2 s unless told. */
  answerMs?: number;
}

/** Above all flows of the redirection. */
const PRIORITY = 1300;
const ANSWER_MS = 2000;
const SHORT_ANSWER_MS = 500;
const AGAIN_MS = 100;
const SHORT_BYTES = 46;
/** The probe's answer has no more. */
const ANSWER_BYTES = 128;

/**
 * Resolves when the sink has answered. Throws `SINK_UNREACHABLE`, which says how far the probe came, and `HOST_UNREACHABLE` when a switch
 * can't be asked. Its flows are those of the VM: what takes the VM's flows away takes them too.
 */
export async function probePath(options: PathProbeOptions): Promise<void> {
  const { vmBridge, sinkBridge, timeoutMs, mtu, answerMs = ANSWER_MS } = options;
  const [here, there] = await Promise.all([vmBridge.connection(timeoutMs), sinkBridge.connection(timeoutMs)]);
  const { vmTunnel, sinkTunnel, sink } = options.ports;
  const [hereNumbers, thereNumbers] = await Promise.all([
    portNumbers(here, [vmTunnel]),
    portNumbers(there, [sinkTunnel, sink]),
  ]);
  const tunnel = hereNumbers[vmTunnel] as number;
  const flows = probeFlows(options, {
    tunnel,
    farTunnel: thereNumbers[sinkTunnel] as number,
    sink: thereNumbers[sink] as number,
  });
  try {
    await Promise.all([
      put(here, flows.vmBridge, options.vmDatapath),
      put(there, flows.sinkBridge, options.sinkDatapath),
    ]);
    if (await isAnswered(options, here, tunnel, mtu, answerMs)) return;
    const short = await isAnswered(options, here, tunnel, SHORT_BYTES, SHORT_ANSWER_MS);
    throw unreachable(options, short ? 'mtu' : await howFar(options, there));
  } finally {
    const deletions = [{ ethSrc: probeMac(options.vmName) }, { ethDst: probeMac(options.vmName) }].map(
      (match): FlowChange => ({ type: 'delete', ...ownFlows(options.vmName), match }),
    );
    await Promise.allSettled([here, there].map((bridge) => commitBundle(bridge, deletions)));
  }
}

/** The probe's way to the sink, and its answer's way back to us: pure. */
export function probeFlows(
  { vmName, mac }: { vmName: string; mac: string },
  ports: { tunnel: number; farTunnel: number; sink: number },
): { vmBridge: FlowSpec[]; sinkBridge: FlowSpec[] } {
  const probe = probeMac(vmName);
  const flow = flowMaker({ vmName });
  const there = { ethSrc: probe, ethDst: mac };
  const back = { ethSrc: mac, ethDst: probe };
  return {
    vmBridge: [
      flow(PRIORITY, { inPort: ports.tunnel, ...back }, [{ type: 'controller', maxBytes: ANSWER_BYTES }]),
    ],
    sinkBridge: [
      flow(PRIORITY, { inPort: ports.farTunnel, ...there }, [{ type: 'output', port: ports.sink }]),
      flow(PRIORITY, { inPort: ports.sink, ...back }, [{ type: 'output', port: ports.farTunnel }]),
    ],
  };
}

async function put(
  bridge: OpenFlowConnection,
  flows: readonly FlowSpec[],
  datapath: PathProbeOptions['sinkDatapath'],
): Promise<void> {
  const change = () => commitBundle(bridge, flows.map(added));
  await (datapath ? datapath.flushAfter(change) : change());
}

async function isAnswered(
  { vmName, mac, address, vmBridge }: PathProbeOptions,
  bridge: OpenFlowConnection,
  tunnel: number,
  payloadBytes: number,
  answerMs: number,
): Promise<boolean> {
  const probe = probeMac(vmName);
  const answered = new AbortController();
  const toProbe = macToBytes(probe);
  const end = vmBridge.onPacketIn(({ data }) => {
    if (data.subarray(0, toProbe.length).equals(toProbe)) answered.abort();
  });
  const data = probeFrame(probe, mac, address, payloadBytes);
  const out = encodePacketOut({ data, actions: [{ type: 'output', port: tunnel }] });
  const deadline = performance.now() + answerMs;
  try {
    while (!answered.signal.aborted && performance.now() < deadline) {
      await bridge.send(out);
      await delay(AGAIN_MS, undefined, { signal: answered.signal }).catch(() => {});
    }
    return answered.signal.aborted;
  } finally {
    end();
  }
}

/** By the counters of the two flows on the sink's side. */
async function howFar(options: PathProbeOptions, there: OpenFlowConnection): Promise<Reached> {
  const flows = await readFlows(there, ownFlows(options.vmName));
  const passed = (field: 'ethSrc' | 'ethDst') =>
    flows.some(({ match, packets }) => match[field] === probeMac(options.vmName) && packets > 0n);
  if (passed('ethDst')) return 'sink';
  return passed('ethSrc') ? 'bridge' : 'nowhere';
}

type Reached = 'nowhere' | 'bridge' | 'sink' | 'mtu';

function unreachable({ vmName, mtu, ports, vmBridge, sinkBridge }: PathProbeOptions, reached: Reached) {
  const [from, to] = [
    `port ${ports.vmTunnel} of ${vmBridge.name}`,
    `port ${ports.sinkTunnel} of ${sinkBridge.name}`,
  ];
  const found = {
    nowhere: `nothing arrived at ${to}; check the tunnel from ${from} and the network below it`,
    bridge: `the sink behind ${ports.sink} did not answer; check its sink-agent’s log`,
    sink: `its answer went into ${to} and did not come back by ${from}; check the tunnel in that direction`,
    mtu: `only short ones pass; raise the MTU of the network below ${from} by what the tunnel adds (50 bytes for VxLAN), or lower the VM’s`,
  }[reached];
  return new SeamlessError(
    'SINK_UNREACHABLE',
    `Expected the sink of ${vmName} to answer packets of ${mtu} bytes, but ${found}. The VM is untouched`,
    { details: { reached, mtu } },
  );
}
