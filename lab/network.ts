/**
 * The lab's namespaces, veths and Linux bridges; open-vswitch.ts joins the production side.
 *
 * A VM is plugged in the hybrid way of OpenStack: tap — Linux bridge — veth — br-int. The Linux bridge is where iptables sees
 * the VM's packets, for security groups there and for holding packets here: Open vSwitch has no such place.
 */
import { exec } from '../common/exec.ts';
import {
  CLIENT,
  HOST_NAMES,
  type HostName,
  type LabPlan,
  MANAGEMENT,
  type MachinePlan,
  namespacePath,
  nativeCables,
  type VmPlan,
} from './plan.ts';

const MANAGEMENT_BRIDGE = 'br-mgmt';
/** VxLAN over IPv4 adds 50 bytes to a frame of 1514. */
const UNDERLAY_MTU = 1600;

/**
 * @param native whether the VMs are containers, with a cable where QEMU takes a tap.
 * @param sinkServer one that is a VM: its namespace is then only the place of its taps
 */
export async function makeNetwork(
  lab: LabPlan,
  vms: readonly VmPlan[],
  native: boolean,
  sinkServer?: MachinePlan,
): Promise<void> {
  for (const host of HOST_NAMES) await exec(['ip', 'netns', 'add', lab.namespaces[host]]);
  await Promise.all(HOST_NAMES.map((host) => setDefaults(lab, host)));
  await makeCables(lab);
  await makeManagementBridges(lab);
  await inNamespace(lab, 'sink', sinkServer ? plugSinkServer(sinkServer) : sinkAddresses());
  await inNamespace(lab, 'client', [
    ...CLIENT.addresses.map((address) => `addr add ${address} dev prod0`),
    'link set prod0 up',
  ]);
  await inNamespace(
    lab,
    'hv',
    vms.flatMap((vm) => plugVm(vm, native)),
  );
  await withoutChecksumOffload(lab, 'client', ['prod0']);
  await withoutChecksumOffload(lab, 'sink', ['ul0']);
  await withoutChecksumOffload(lab, 'hv', [
    'ul0',
    'client0',
    ...vms.flatMap(({ production }) => [production.inner, production.port]),
  ]);
}

/** Deletes the namespaces, and with them every interface in them. */
export async function removeNetwork(lab: LabPlan): Promise<void> {
  const { stdout } = await exec(['ip', 'netns', 'list']);
  const present = new Set(stdout.split('\n').map((line) => line.split(' ')[0]));
  for (const host of HOST_NAMES)
    if (present.has(lab.namespaces[host])) await exec(['ip', 'netns', 'delete', lab.namespaces[host]]);
}

async function setDefaults(lab: LabPlan, host: HostName): Promise<void> {
  const settings = [
    // Switches don't speak IPv6 themselves; who does needs no duplicate detection, the addresses being planned.
    `net.ipv6.conf.default.disable_ipv6=${host === 'client' ? 0 : 1}`,
    'net.ipv6.conf.default.accept_dad=0',
    'net.ipv6.conf.default.accept_ra=0',
    // iptables on bridges is asked for bridge by bridge (nf_call_iptables), not for all.
    'net.bridge.bridge-nf-call-iptables=0',
    'net.bridge.bridge-nf-call-ip6tables=0',
    'net.bridge.bridge-nf-call-arptables=0',
  ];
  await exec(['nsenter', `--net=${namespacePath(lab, host)}`, 'sysctl', '--quiet', '--write', ...settings]);
  await inNamespace(lab, host, ['link set lo up']);
}

async function makeCables(lab: LabPlan): Promise<void> {
  const { client, hv, sink, mgmt } = lab.namespaces;
  await exec(['ip', '-batch', '-'], {
    input: lines([
      `link add prod0 netns ${client} address ${CLIENT.mac} type veth peer name client0 netns ${hv}`,
      `link add ul0 netns ${hv} mtu ${UNDERLAY_MTU} type veth peer name ul0 netns ${sink} mtu ${UNDERLAY_MTU}`,
      `link add hv0 netns ${mgmt} type veth peer name mgmt0 netns ${hv}`,
      `link add sink0 netns ${mgmt} type veth peer name mgmt0 netns ${sink}`,
    ]),
  });
}

async function makeManagementBridges(lab: LabPlan): Promise<void> {
  const bridge = `link add ${MANAGEMENT_BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0`;
  const into = (port: string) => [`link set ${port} master ${MANAGEMENT_BRIDGE}`, `link set ${port} up`];
  const address = (of: string, device: string) => [
    `addr add ${of}/24 dev ${device}`,
    `link set ${device} up`,
  ];
  await inNamespace(lab, 'mgmt', [
    bridge,
    ...into('hv0'),
    ...into('sink0'),
    ...address(MANAGEMENT.orchestrator, MANAGEMENT_BRIDGE),
  ]);
  await inNamespace(lab, 'hv', [
    bridge,
    ...into('mgmt0'),
    ...address(MANAGEMENT.hv, MANAGEMENT_BRIDGE),
    'link set ul0 up',
    'link set client0 up',
  ]);
}

function sinkAddresses(): string[] {
  return [`addr add ${MANAGEMENT.sink}/24 dev mgmt0`, 'link set mgmt0 up', 'link set ul0 up'];
}

function plugSinkServer({ production, management }: MachinePlan): string[] {
  const join = (bridge: string, tap: string, cable: string, mtu: number) => [
    `link add ${bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
    `tuntap add dev ${tap} mode tap`,
    `link set ${tap} mtu ${mtu} master ${bridge}`,
    `link set ${cable} master ${bridge}`,
    ...[bridge, tap, cable].map((link) => `link set ${link} up`),
  ];
  return [
    ...join('br-ul', production.tap, 'ul0', UNDERLAY_MTU),
    ...join(MANAGEMENT_BRIDGE, management.tap, 'mgmt0', 1500),
  ];
}

function plugVm({ name, production, management }: VmPlan, native: boolean): string[] {
  const { tap, bridge, inner, port } = production;
  const cables = nativeCables(name);
  const device = (outside: string, guestEnd: string) =>
    native ? `link add ${outside} type veth peer name ${guestEnd}` : `tuntap add dev ${outside} mode tap`;
  return [
    // ageing_time 0: a hub. Nothing to learn between two ports, nothing to be wrong when the VM's address moves.
    `link add ${bridge} type bridge stp_state 0 forward_delay 0 ageing_time 0 mcast_snooping 0 nf_call_iptables 1 nf_call_ip6tables 1`,
    `link add ${inner} type veth peer name ${port}`,
    device(tap, cables.production),
    device(management.tap, cables.management),
    `link set ${tap} master ${bridge}`,
    `link set ${inner} master ${bridge}`,
    `link set ${management.tap} master ${MANAGEMENT_BRIDGE}`,
    ...[bridge, inner, port, tap, management.tap].map((link) => `link set ${link} up`),
  ];
}

/** Open vSwitch's userspace datapath hands on frames as they are: a checksum left to the NIC would never be filled in. */
async function withoutChecksumOffload(lab: LabPlan, host: HostName, links: readonly string[]): Promise<void> {
  for (const link of links)
    await exec(['nsenter', `--net=${namespacePath(lab, host)}`, 'ethtool', '-K', link, 'tx', 'off']);
}

async function inNamespace(lab: LabPlan, host: HostName, commands: readonly string[]): Promise<void> {
  if (commands.length > 0)
    await exec(['ip', '-netns', lab.namespaces[host], '-batch', '-'], { input: lines(commands) });
}

function lines(commands: readonly string[]): string {
  return `${commands.join('\n')}\n`;
}
