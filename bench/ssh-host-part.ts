/**
 * What hosts by ssh cost on the way of a wake, without the wake: all that the orchestrator asks of the two hosts between trigger and
 * release, by local and by ssh transports in turn, so that what else the machine does falls on both alike. Two real switches, a
 * real packet buffer, a memory cgroup and a QMP socket: a native lab without services. `bench/ssh-transport.ts` has whole wakes.
 *
 *   SEAMLESS_LAB=b node bench/ssh-host-part.ts [--template NAME] [--rounds N] [--json]
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { execa } from 'execa';
import { createLog } from '../common/log.ts';
import { takeDown } from '../lab/down.ts';
import { startHostSsh } from '../lab/host-ssh.ts';
import { databaseSocket, openflowSocket, type SwitchHost, switchControlSocket } from '../lab/open-vswitch.ts';
import { type LabPlan, namespacePath, planLab, planVms, TUNNEL_PORT, type VmPlan } from '../lab/plan.ts';
import { writeState } from '../lab/state.ts';
import { bringUp } from '../lab/up.ts';
import type { TransportConfig } from '../orchestrator/host/transport-config.ts';
import { memoryCgroup } from '../orchestrator/hypervisor/memory-cgroup.ts';
import { Qmp } from '../orchestrator/hypervisor/qmp.ts';
import { type HostLink, hostLink } from '../orchestrator/network/host-link.ts';
import { PacketBuffer } from '../orchestrator/packet-buffer/packet-buffer.ts';
import { Redirect } from '../ovs/redirect.ts';
import { cacheDirectory } from '../template/store.ts';

type Kind = 'local' | 'ssh';
/** Milliseconds. */
export interface HostPartRow {
  /** `all`: their sum, of each round. */
  step: string;
  p50: Record<Kind, number>;
  p10: Record<Kind, number>;
}

type Transports = Record<SwitchHost, TransportConfig>;

const { values } = parseArgs({
  options: {
    template: { type: 'string', default: 'default' },
    rounds: { type: 'string', default: '200' },
    json: { type: 'boolean', default: false },
    /** The measuring process itself, in the orchestrator's namespace: the transports of each kind. */
    measure: { type: 'string' },
  },
});
const lab = planLab(process.env.SEAMLESS_LAB, cacheDirectory(process.env));
const [vm] = planVms(lab, [`vm1:${values.template}`], 512) as [VmPlan];
/** Nobody's queue: the buffer answers, and holds nothing. */
const QUEUE = 61_000;

if (values.measure) await measure(JSON.parse(values.measure) as Record<Kind, Transports>);
else await inLab();

async function inLab(): Promise<void> {
  const { signal } = new AbortController();
  const report = (line: string) => process.stderr.write(`bench: ${line}\n`);
  const up = { lab, vms: [vm], source: join(import.meta.dirname, '..'), services: false, native: true };
  const state = await bringUp({ ...up, report, signal });
  try {
    const started = (running: (typeof state.processes)[number]) => {
      state.processes.push(running);
      writeState(lab, state);
    };
    const local = (host: SwitchHost) => ({ type: 'local' as const, netns: namespacePath(lab, host) });
    const transports: Record<Kind, Transports> = {
      local: { hv: local('hv'), sink: local('sink') },
      ssh: {
        hv: await startHostSsh(lab, 'hv', started, signal),
        sink: await startHostSsh(lab, 'sink', started, signal),
      },
    };
    const self = [process.execPath, import.meta.filename, ...process.argv.slice(2)];
    const argv = [
      `--net=${namespacePath(lab, 'mgmt')}`,
      '--',
      ...self,
      '--measure',
      JSON.stringify(transports),
    ];
    await execa('nsenter', argv, { stdio: 'inherit' });
  } finally {
    await takeDown(lab, () => {});
  }
}

async function measure(transports: Record<Kind, Transports>): Promise<void> {
  const ways = { local: await way('local', transports.local), ssh: await way('ssh', transports.ssh) };
  const times: Record<Kind, Record<string, number[]>> = { local: {}, ssh: {} };
  for (let round = -5; round < Number(values.rounds); round++) {
    // Who comes second finds warm caches: each is first every other time.
    for (const kind of round % 2 === 0 ? (['local', 'ssh'] as const) : (['ssh', 'local'] as const)) {
      for (const [name, work] of ways[kind].steps) {
        const start = performance.now();
        await work();
        const ms = performance.now() - start;
        if (round >= 0) times[kind][name] = [...(times[kind][name] ?? []), ms];
      }
    }
  }
  await ways.local.close();
  await ways.ssh.close();
  const rows = rowsOf(times);
  if (values.json)
    return void process.stdout.write(`${JSON.stringify({ rounds: Number(values.rounds), rows })}\n`);
  process.stdout.write(
    `milliseconds, ${values.rounds} rounds             median: local     ssh    more   p10: local     ssh    more\n`,
  );
  for (const { step, p50, p10 } of rows) {
    const cells = [p50, p10].map(({ local, ssh }) =>
      [local, ssh, ssh - local].map((ms) => ms.toFixed(2).padStart(8)).join(''),
    );
    process.stdout.write(`${step.padEnd(32)}${cells.map((cell) => cell.padStart(28)).join('')}\n`);
  }
}

/** One per step, and one for all together. The fastest tenth says what it costs on a machine that does nothing else. */
function rowsOf(times: Record<Kind, Record<string, number[]>>): HostPartRow[] {
  const total = { local: sums(times.local), ssh: sums(times.ssh) };
  return [...Object.keys(times.local), 'all'].map((step) => {
    const of = (kind: Kind, part: number) =>
      quantile((step === 'all' ? total[kind] : times[kind][step]) ?? [], part);
    const both = (part: number) => ({ local: of('local', part), ssh: of('ssh', part) });
    return { step, p50: both(0.5), p10: both(0.1) };
  });
}

/** The steps of a wake that ask a host, in their order, with the orchestrator's own code. */
async function way(kind: Kind, transports: Transports) {
  const log = createLog('error', { service: 'bench' });
  const hv = hostLink(hostConfig(lab, 'hv', transports.hv), log);
  const sink = hostLink(hostConfig(lab, 'sink', transports.sink), log);
  await Promise.all([hv.openflow.connection(), sink.openflow.connection()]);
  const cgroup = memoryCgroup(hv.transport, vm.cgroup);
  const buffer = await packetBuffer(hv, kind);
  const redirect = new Redirect({
    ...{ vmName: `bench-${kind}`, mac: vm.production.mac, heldTcpPorts: [22] },
    ...{ vmBridge: hv.openflow, sinkBridge: sink.openflow },
    ...{ vmDatapath: hv.datapath, sinkDatapath: sink.datapath },
    ports: { vm: vm.production.port, vmTunnel: TUNNEL_PORT, sinkTunnel: TUNNEL_PORT, sink: 'none' },
  });
  const qmpSocket = join(vm.directory, 'qmp.sock');
  const qmp = new Qmp({ name: 'vm1', connect: (signal) => hv.transport.connect(qmpSocket, signal) });
  const steps: [string, () => Promise<unknown>][] = [
    ['resume: QMP beside the limit', () => Promise.all([qmp.execute('query-status'), cgroup.lift()])],
    ['flip: hold, both switches', () => redirect.toVm(buffer.hold())],
    ['release', () => buffer.status().then(() => buffer.release())],
  ];
  return {
    steps,
    async close() {
      qmp.close();
      await redirect.remove();
      await buffer.disarm({ force: true });
      await Promise.all([hv.close(), sink.close()]);
    },
  };
}

async function packetBuffer(hv: HostLink, kind: Kind): Promise<PacketBuffer> {
  const program = await hv.transport.install(join(import.meta.dirname, '../build/packet-buffer'));
  const { mac, tap, bridge, inner } = vm.production;
  const runDir = join(lab.runDirectory, `bench-${kind}`);
  mkdirSync(runDir, { recursive: true });
  const buffer = new PacketBuffer({
    ...{ host: hv.transport, program, vm: `bench-${kind}`, mac, tap, bridge, uplink: inner, runDir },
    ...{ queue: QUEUE + (kind === 'ssh' ? 1 : 0), heldTcpPorts: [], healthChecks: [] },
  });
  await buffer.arm();
  return buffer;
}

function hostConfig(of: LabPlan, name: SwitchHost, transport: TransportConfig) {
  return {
    ...{ name, transport, bridge: 'br-int', openflowSocket: openflowSocket(of, name) },
    ...{ ovsdbSocket: databaseSocket(of, name), switchControl: switchControlSocket(of, name) },
  };
}

/** Of each round. */
function sums(byStep: Record<string, number[]>): number[] {
  const steps = Object.values(byStep);
  return (steps[0] ?? []).map((_, round) => steps.reduce((sum, step) => sum + (step[round] ?? 0), 0));
}

function quantile(all: readonly number[], part: number): number {
  const sorted = [...all].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length * part)] ?? Number.NaN;
}
