/**
 * Two hosts as network namespaces, each with its own Open vSwitch (userspace datapath), joined by VxLAN:
 *
 *   client ── client0 [br-int, hv] qvo-vm1 ── qvb-vm1 [qbr-vm1] tap-vm1 ── vm
 *                       vxlan0 ═══════ vxlan0 [br-int, sink] sink-vm1 ── stack
 *
 * `vm` and `stack` have the same addresses, as a VM and its sink do. Taps are veths here: no QEMU is needed to
 * receive packets.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { exec } from '../../../common/exec.ts';
import { localHost } from '../../../orchestrator/host/local.ts';
import type { HostTransport } from '../../../orchestrator/host/transport.ts';

export const VM_MAC = '52:54:00:00:00:02';
export const CLIENT_MAC = '52:54:00:00:00:01';
export const VM_IP = '10.7.0.2';
export const VM_IP6 = 'fd07::2';
export const CLIENT_IP = '10.7.0.1';
export const CLIENT_IP6 = 'fd07::1';

export interface Place {
  name: string;
  netns: string;
  host: HostTransport;
}

export interface SwitchHost extends Place {
  /** Directory of the switch's sockets. */
  dir: string;
  connect(signal?: AbortSignal): Promise<Duplex>;
  /** To ovs-vswitchd's control socket. */
  connectControl(signal?: AbortSignal): Promise<Duplex>;
  connectOvsdb(signal?: AbortSignal): Promise<Duplex>;
  ofctl(...args: string[]): Promise<string>;
  vsctl(...args: string[]): Promise<string>;
  /** Ends ovs-vswitchd and starts it again; resolves when the bridges are back. */
  restartSwitch(): Promise<void>;
}

export interface TwoHosts {
  hv: SwitchHost;
  sink: SwitchHost;
  client: Place;
  vm: Place;
  stack: Place;
  dir: string;
  stop(): Promise<void>;
}

export async function startTwoHosts(prefix: string): Promise<TwoHosts> {
  const dir = await mkdtemp(join(tmpdir(), `${prefix}-`));
  const undo: (() => Promise<unknown>)[] = [() => rm(dir, { recursive: true, force: true })];
  const stop = async () => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    const place = async (name: string): Promise<Place> => {
      const netnsName = `${prefix}${process.pid}-${name}`;
      await exec(['ip', 'netns', 'add', netnsName]);
      undo.push(() => exec(['ip', 'netns', 'del', netnsName]));
      const netns = `/run/netns/${netnsName}`;
      const host = localHost({ name, netns });
      await host.run(['ip', 'link', 'set', 'lo', 'up']);
      return { name, netns, host };
    };
    const [client, vm, stack] = [await place('client'), await place('vm'), await place('stack')];
    const hv = await startSwitch(await place('hv'), dir, undo);
    const sink = await startSwitch(await place('sink'), dir, undo);
    await joinByVxlan(hv, sink);
    await attach(client, CLIENT_MAC, [CLIENT_IP, CLIENT_IP6], hv, 'client0');
    await attach(stack, VM_MAC, [VM_IP, VM_IP6], sink, 'sink-vm1');
    await attachVm(vm, hv);
    for (const peer of [vm, stack]) await neighbours(peer, [CLIENT_IP, CLIENT_IP6], CLIENT_MAC);
    await neighbours(client, [VM_IP, VM_IP6], VM_MAC);
    return { hv, sink, client, vm, stack, dir, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Starts `argv` in a place; its lines of output can be waited for. */
export function run(place: Place, argv: readonly string[], undo: (() => Promise<unknown>)[]): Running {
  const child = spawn('nsenter', [`--net=${place.netns}`, '--', ...argv], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  undo.push(() => end(child));
  return new Running(child);
}

export class Running {
  readonly child: ChildProcess;
  readonly #lines: string[] = [];
  #partial = '';
  #wake: () => void = () => {};

  constructor(child: ChildProcess) {
    this.child = child;
    child.stdout?.on('data', (chunk: Buffer) => {
      const parts = (this.#partial + chunk.toString()).split('\n');
      this.#partial = parts.pop() ?? '';
      this.#lines.push(...parts);
      this.#wake();
    });
    child.stdout?.on('close', () => this.#wake());
  }

  /** The next line; throws after ten seconds unless told, or at once when the program has ended. */
  async line(timeoutMs = 10_000): Promise<string> {
    const deadline = AbortSignal.timeout(timeoutMs);
    while (this.#lines.length === 0) {
      if (this.child.stdout?.closed) throw new Error('expected a line of output, got its end');
      deadline.throwIfAborted();
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      const abort = () => resolve();
      deadline.addEventListener('abort', abort);
      await promise;
      deadline.removeEventListener('abort', abort);
    }
    return this.#lines.shift() as string;
  }

  signal(name: NodeJS.Signals): void {
    this.child.kill(name);
  }

  stop(): Promise<void> {
    return end(this.child);
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 3000);
  await exited;
  clearTimeout(timer);
}

async function startSwitch(
  place: Place,
  parent: string,
  undo: (() => Promise<unknown>)[],
): Promise<SwitchHost> {
  const dir = join(parent, place.name);
  await exec(['mkdir', '-p', dir]);
  const db = `unix:${dir}/db.sock`;
  const env = ['env', `OVS_RUNDIR=${dir}`, `OVS_LOGDIR=${dir}`, `OVS_DBDIR=${dir}`];
  await exec(['ovsdb-tool', 'create', `${dir}/conf.db`, '/usr/share/openvswitch/vswitch.ovsschema']);
  const daemon = (...argv: string[]) =>
    run(place, [...env, ...argv, '-vconsole:off', `-vfile:info`, `--log-file=${dir}/${argv[0]}.log`], undo);
  daemon('ovsdb-server', `${dir}/conf.db`, `--remote=p${db}`, `--unixctl=${dir}/ovsdb.ctl`);
  await connected(`${dir}/db.sock`);
  const vsctl = async (...args: string[]) =>
    (await place.host.run([...env, 'ovs-vsctl', '--timeout=10', `--db=${db}`, ...args] as [string])).stdout;
  await vsctl('--no-wait', 'init');
  const startVswitchd = () => daemon('ovs-vswitchd', db, `--unixctl=${dir}/vswitchd.ctl`);
  let vswitchd = startVswitchd();
  await vsctl('add-br', 'br-int', '--', 'set', 'bridge', 'br-int', 'datapath_type=netdev');
  const mgmt = `${dir}/br-int.mgmt`;
  return {
    ...place,
    dir,
    vsctl,
    connect: (signal) => place.host.connect(mgmt, signal),
    connectControl: (signal) => place.host.connect(`${dir}/vswitchd.ctl`, signal),
    connectOvsdb: (signal) => place.host.connect(`${dir}/db.sock`, signal),
    ofctl: async (...args) =>
      (await place.host.run([...env, 'ovs-ofctl', '-O', 'OpenFlow14', ...args] as [string])).stdout,
    restartSwitch: async () => {
      await vswitchd.stop();
      vswitchd = startVswitchd();
      await connected(mgmt);
    },
  };
}

async function joinByVxlan(hv: SwitchHost, sink: SwitchHost): Promise<void> {
  await hv.host.run([
    'ip',
    'link',
    'add',
    'phy0',
    'type',
    'veth',
    'peer',
    'name',
    'phy0',
    'netns',
    baseName(sink),
  ]);
  const ends = [
    { here: hv, address: '192.168.77.1', peer: '192.168.77.2' },
    { here: sink, address: '192.168.77.2', peer: '192.168.77.1' },
  ];
  for (const { here, address } of ends) {
    await quietDevice(here, 'phy0');
    // The userspace datapath sends tunnel packets only over a bridge of its own that carries the address.
    await here.vsctl(
      ...['add-br', 'br-phy', '--', 'set', 'bridge', 'br-phy', 'datapath_type=netdev'],
      ...['--', 'add-port', 'br-phy', 'phy0'],
    );
    await here.host.run(['ip', 'addr', 'add', `${address}/24`, 'dev', 'br-phy']);
    await here.host.run(['ip', 'link', 'set', 'br-phy', 'up']);
  }
  for (const { here, peer } of ends) {
    const vxlan = ['set', 'interface', 'vxlan0', 'type=vxlan', `options:remote_ip=${peer}`, 'options:key=7'];
    await here.vsctl('add-port', 'br-int', 'vxlan0', '--', ...vxlan);
  }
}

async function attach(
  place: Place,
  mac: string,
  addresses: readonly string[],
  to: SwitchHost,
  port: string,
): Promise<void> {
  await to.host.run([
    'ip',
    'link',
    'add',
    port,
    'type',
    'veth',
    'peer',
    'name',
    'eth0',
    'netns',
    baseName(place),
  ]);
  await quietDevice(to, port);
  await addressed(place, mac, addresses);
  await to.vsctl('add-port', 'br-int', port);
}

async function attachVm(vm: Place, hv: SwitchHost): Promise<void> {
  const { host } = hv;
  await host.run([
    'ip',
    'link',
    'add',
    'tap-vm1',
    'type',
    'veth',
    'peer',
    'name',
    'eth0',
    'netns',
    baseName(vm),
  ]);
  await host.run(['ip', 'link', 'add', 'qvo-vm1', 'type', 'veth', 'peer', 'name', 'qvb-vm1']);
  // As OpenStack's os-vif does: a bridge that learns would find the VM's address at its uplink, where the sink's
  // broadcasts come from, and drop what is for the VM.
  const asHub = ['mcast_snooping', '0', 'ageing_time', '0'];
  await host.run(['ip', 'link', 'add', 'qbr-vm1', 'type', 'bridge', ...asHub]);
  for (const device of ['tap-vm1', 'qvb-vm1']) {
    await quietDevice(hv, device);
    await host.run(['ip', 'link', 'set', device, 'master', 'qbr-vm1']);
  }
  await quietDevice(hv, 'qvo-vm1');
  await host.run(['ip', 'link', 'set', 'qbr-vm1', 'up']);
  await addressed(vm, VM_MAC, [VM_IP, VM_IP6]);
  await hv.vsctl('add-port', 'br-int', 'qvo-vm1');
}

async function addressed({ host }: Place, mac: string, addresses: readonly string[]): Promise<void> {
  await host.run(['ip', 'link', 'set', 'eth0', 'address', mac]);
  for (const address of addresses) {
    const flags = address.includes(':') ? ['nodad'] : [];
    await host.run(['ip', 'addr', 'add', `${address}/${flags.length ? 64 : 24}`, 'dev', 'eth0', ...flags]);
  }
  await host.run(['ip', 'link', 'set', 'eth0', 'up']);
  // Open vSwitch's userspace datapath does not complete checksums that were left to the hardware.
  await host.run(['ethtool', '-K', 'eth0', 'tx', 'off']);
}

async function neighbours({ host }: Place, addresses: readonly string[], mac: string): Promise<void> {
  for (const address of addresses) {
    await host.run(['ip', 'neigh', 'replace', address, 'lladdr', mac, 'dev', 'eth0', 'nud', 'permanent']);
  }
}

/** Up, and without IPv6 chatter of its own. */
async function quietDevice({ host }: Place, device: string): Promise<void> {
  await host.run(['sysctl', '-qw', `net.ipv6.conf.${device}.disable_ipv6=1`]);
  await host.run(['ip', 'link', 'set', device, 'up']);
}

async function connected(path: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const socket = createConnection({ path });
    try {
      await once(socket, 'connect');
      socket.destroy();
      return;
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await delay(10);
    }
  }
}

function baseName({ netns }: Place): string {
  return netns.slice(netns.lastIndexOf('/') + 1);
}
