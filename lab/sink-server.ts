/**
 * `lab up --sink-server vm`: the sink server as a QEMU VM of the lab's template, with its own kernel, systemd, cgroup v2 and Open vSwitch
 * on the kernel's datapath. It has what an operator's has (docs/install.md), and our agent comes by `seamless sink install`.
 *
 * The templates of the VMs are disks of its own, read-only: the very files that the VMs started from. So are the agent's programs, which
 * `sink install` then finds there: by ssh they would take half a minute on an emulated processor.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import { AGENTS_PREFIX, packAgent } from '../orchestrator/install/bundle.ts';
import { templateDirectory, templatePaths } from '../template/store.ts';
import type { Accelerator } from './accelerator.ts';
import { INTEGRATION_BRIDGE } from './open-vswitch.ts';
import {
  AGENT_PORT,
  type LabPlan,
  MANAGEMENT,
  type MachinePlan,
  MEMORY_CGROUPS,
  namespacePath,
  SINK_NAME,
  TUNNEL_PORT,
  UNDERLAY,
  type VmPlan,
} from './plan.ts';
import type { RunningProcess } from './processes.ts';
import { orchestratorConfigPath } from './services.ts';
import { clientKeyPath, hostKeyPath, sshConfigPath } from './ssh.ts';
import { machineCommand, startMachine, waitForBoot } from './vm.ts';

/** Built with these beside the usual ones. */
export const SINK_SERVER_TEMPLATE = 'sinkserver';
export const SINK_SERVER_PACKAGES: readonly string[] = [
  'ethtool',
  'libnetfilter-queue1',
  'nftables',
  'openvswitch-switch',
];
const MEMORY_MIB = 640;
const TEMPLATES = '/var/lib/seamless/templates';
const AGENT_DISK = '400M'; // sparse
const SET_UP_MS = 120_000;
const INSTALL_MS = 180_000;

export function planSinkServer(lab: LabPlan): MachinePlan {
  const name = 'sink-server'; // no VM's: theirs have no hyphen
  return {
    name,
    template: SINK_SERVER_TEMPLATE,
    memoryMiB: MEMORY_MIB,
    directory: join(lab.runDirectory, name),
    disk: join(lab.diskDirectory, name),
    cgroup: join(MEMORY_CGROUPS, lab.cgroup, name),
    // Its address is the underlay bridge's, which is made later.
    production: { mac: '52:54:00:77:02:01', addresses: [], tap: 'tap-sink' },
    management: { mac: '52:54:00:78:02:01', address: MANAGEMENT.sink, tap: 'mtap-sink' },
  };
}

/** Starts it. @returns what waits until it is a host that an orchestrator may have */
export async function startSinkServer(
  lab: LabPlan,
  vms: readonly VmPlan[],
  accel: Accelerator,
  started: (running: RunningProcess) => void,
): Promise<(signal: AbortSignal) => Promise<void>> {
  const machine = planSinkServer(lab);
  const templates = [...new Set(vms.map(({ template }) => template))];
  const disks = [
    await makeAgentDisk(lab),
    ...templates.map((template) => ({
      place: `${TEMPLATES}/${template}/root`,
      file: templatePaths(templateDirectory(lab.cache, template)).disk,
    })),
  ].map((disk) => ({ ...disk, serial: serialOf(disk.place) }));
  const command = await machineCommand(lab, machine, accel, {}, OWN);
  const running = await startMachine(lab, machine, [...command, ...disks.flatMap(diskArguments)], 'sink');
  started(running);
  return async (signal) => {
    await waitForBoot(machine, running, signal);
    const places = disks.flatMap(({ place, serial }) => [place, serial]);
    await onSinkServer(lab, SET_UP, places, signal);
  };
}

/** The orchestrator's transport, and where its Open vSwitch is: Debian's paths. */
export async function sinkServerHost(lab: LabPlan) {
  const hostKey = await readFile(`${hostKeyPath(lab, planSinkServer(lab).name)}.pub`, 'utf8');
  return {
    name: 'sink',
    transport: {
      type: 'ssh' as const,
      address: MANAGEMENT.sink,
      keyFile: clientKeyPath(lab),
      hostKey: hostKey.trim(),
    },
    openflowSocket: `/run/openvswitch/${INTEGRATION_BRIDGE}.mgmt`,
    ovsdbSocket: '/run/openvswitch/db.sock',
    switchControl: '/run/openvswitch/ovs-vswitchd.PID.ctl',
    bridge: INTEGRATION_BRIDGE,
  };
}

export type SinkServerHost = Awaited<ReturnType<typeof sinkServerHost>>;

/** The agent, by the command that operators have; the orchestrator's configuration must be written. */
export async function installSinkAgent(lab: LabPlan, source: string, signal: AbortSignal): Promise<void> {
  const { transport } = await sinkServerHost(lab);
  const what = ['sink', 'install', SINK_NAME, `ssh://root@${transport.address}`, '--templates', TEMPLATES];
  const how = [
    '--host-key',
    transport.hostKey,
    '--key',
    transport.keyFile,
    '--config',
    orchestratorConfigPath(lab),
  ];
  const cli = [process.execPath, join(source, 'orchestrator/cli/main.ts')];
  const agent = ['--agent', `${MANAGEMENT.sink}:${AGENT_PORT}`];
  await exec(['nsenter', `--net=${namespacePath(lab, 'mgmt')}`, '--', ...cli, ...what, ...how, ...agent], {
    timeoutMs: INSTALL_MS,
    signal,
  });
}

async function onSinkServer(
  lab: LabPlan,
  script: string,
  args: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const { name } = planSinkServer(lab);
  const ssh = ['ssh', '-F', sshConfigPath(lab), `${name}.mgmt`, '--', 'sh', '-s', '--', ...args];
  try {
    await exec(['nsenter', `--net=${namespacePath(lab, 'mgmt')}`, '--', ...ssh], {
      input: script,
      timeoutMs: SET_UP_MS,
      signal,
    });
  } catch (cause) {
    throw new SeamlessError(
      'COMMAND_FAILED',
      `the sink server could not be set up: ${(cause as Error).message}`,
      {
        cause,
      },
    );
  }
}

/** Below /etc. It is parked nowhere, so its services need not do without a capability that a sink server may lack; its own agent needs all. */
const OWN = {
  'systemd/system/service.d/10-seamless.conf': '',
  // Its scripts take more than the usual minute and a half where the processor is emulated and busy.
  'systemd/system/ovsdb-server.service.d/slow.conf': '[Service]\nTimeoutStartSec=300\n',
  // As docs/hosts.md asks for; without PAM a command does not wait for a session to be noted.
  'ssh/sshd_config.d/seamless.conf':
    'UsePAM no\nSetEnv SHLVL=1\nClientAliveInterval 5\nClientAliveCountMax 3\n',
};

/** A disk with what `sink install` would upload, for the folder that it would unpack it to. */
async function makeAgentDisk(lab: LabPlan): Promise<{ place: string; file: string }> {
  const folder = join(lab.diskDirectory, 'agent');
  const tree = join(folder, 'tree');
  const disk = join(lab.diskDirectory, 'agent.img');
  await mkdir(tree, { recursive: true });
  const { role, version, file } = await packAgent('sink-agent', folder);
  await exec(['tar', '-xzf', file, '-C', tree]);
  await exec(['mkfs.ext4', '-q', '-F', '-O', '^has_journal', '-m', '0', '-d', tree, disk, AGENT_DISK]);
  await rm(folder, { recursive: true });
  return { place: `${AGENTS_PREFIX}/${role}/${version}`, file: disk };
}

function diskArguments({ file, serial }: { file: string; serial: string }): string[] {
  return [
    '-drive',
    `if=none,id=${serial},readonly=on,format=raw,file=${file}`,
    '-device',
    `virtio-blk-pci,drive=${serial},serial=${serial}`,
  ];
}

/** virtio-blk's serial number has 20 characters; QEMU's ids begin with a letter. */
function serialOf(place: string): string {
  return `d${createHash('sha256').update(place).digest('hex').slice(0, 19)}`;
}

/** What docs/install.md has an operator do. The underlay's MTU has room for a frame in VxLAN. */
const SET_UP = `
set -eu
while [ $# -gt 0 ]; do
  for block in /sys/block/vd*; do [ "$(cat "$block/serial")" != "$2" ] || disk=/dev/\${block##*/}; done
  mkdir -p "$1"
  mount -t ext4 -o ro "$disk" "$1"
  [ ! -e "$1/usr/lib/seamless/template.json" ] || ln -s root/usr/lib/seamless/template.json "\${1%/root}/template.json"
  shift 2
done
ip link set eth0 mtu 1600
systemctl start openvswitch-switch
ovs-vsctl --timeout=60 \\
  -- add-br br-under -- set bridge br-under datapath_type=system -- add-port br-under eth0 \\
  -- set interface br-under mtu_request=1600 \\
  -- add-br ${INTEGRATION_BRIDGE} -- set bridge ${INTEGRATION_BRIDGE} datapath_type=system fail_mode=standalone \\
  -- add-port ${INTEGRATION_BRIDGE} ${TUNNEL_PORT} \\
  -- set interface ${TUNNEL_PORT} type=vxlan options:remote_ip=${UNDERLAY.hv} options:key=77
ip addr add ${UNDERLAY.sink}/24 dev br-under
ip link set br-under up
ip link set ${INTEGRATION_BRIDGE} up
`;
