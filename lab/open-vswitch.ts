/**
 * One Open vSwitch per host namespace: ovsdb-server and ovs-vswitchd of its own, in a folder of its own, with the userspace
 * datapath. Their br-int are joined by a VxLAN port; the underlay NIC is a port of a second bridge that carries its
 * address, because that datapath sends tunnel packets only through its own ports.
 */
import { mkdir } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { exec } from '../common/exec.ts';
import { type LabPlan, namespacePath, TUNNEL_PORT, UNDERLAY } from './plan.ts';
import { type RunningProcess, startProcess, waitUntilReady } from './processes.ts';

export type SwitchHost = 'hv' | 'sink';

export const INTEGRATION_BRIDGE = 'br-int';
const UNDERLAY_BRIDGE = 'br-under';
const SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';
const READY_MS = 15_000;

export function switchDirectory(lab: LabPlan, host: SwitchHost): string {
  return join(lab.runDirectory, `ovs-${host}`);
}

export function databaseSocket(lab: LabPlan, host: SwitchHost): string {
  return join(switchDirectory(lab, host), 'db.sock');
}

/** The bridge's OpenFlow service socket, which exists without any controller being set. */
export function openflowSocket(lab: LabPlan, host: SwitchHost): string {
  return join(switchDirectory(lab, host), `${INTEGRATION_BRIDGE}.mgmt`);
}

/** Where ovs-vswitchd takes commands. */
export function switchControlSocket(lab: LabPlan, host: SwitchHost): string {
  return join(switchDirectory(lab, host), 'ovs-vswitchd.ctl');
}

/**
 * Starts the switch of `host` and plugs `ports` (interfaces of its namespace) into br-int.
 * @param started is told each process as soon as it exists.
 */
export async function startSwitch(
  lab: LabPlan,
  host: SwitchHost,
  ports: readonly string[],
  started: (process: RunningProcess) => void,
  signal: AbortSignal,
): Promise<void> {
  const directory = switchDirectory(lab, host);
  await mkdir(directory, { recursive: true });
  await exec(['ovsdb-tool', 'create', join(directory, 'conf.db'), SCHEMA]);
  const start = async (name: string, argv: readonly [string, ...string[]], socket: string) => {
    const log = join(directory, `${name}.out`);
    const running = startProcess({
      name: `${name} of ${host}`,
      argv: [
        ...argv,
        `--log-file=${join(directory, `${name}.log`)}`,
        `--pidfile=${join(directory, `${name}.pid`)}`,
        '-vconsole:warn',
      ],
      netns: namespacePath(lab, host),
      log,
      env: { OVS_RUNDIR: directory, OVS_LOGDIR: directory, OVS_DBDIR: directory },
    });
    started(running);
    await waitUntilReady({ running, log, timeoutMs: READY_MS, signal, probe: () => isAccepting(socket) });
  };
  const database = databaseSocket(lab, host);
  await start(
    'ovsdb-server',
    [
      'ovsdb-server',
      join(directory, 'conf.db'),
      `--remote=punix:${database}`,
      `--unixctl=${join(directory, 'ovsdb-server.ctl')}`,
    ],
    database,
  );
  await exec(['ovs-vsctl', `--db=unix:${database}`, '--no-wait', 'init']);
  await start(
    'ovs-vswitchd',
    ['ovs-vswitchd', `unix:${database}`, `--unixctl=${switchControlSocket(lab, host)}`],
    switchControlSocket(lab, host),
  );
  await makeBridges(lab, host, ports);
}

/** A socket is there a moment before anybody listens on it. */
function isAccepting(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ path });
    socket.once('error', () => resolve(false));
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}

async function makeBridges(lab: LabPlan, host: SwitchHost, ports: readonly string[]): Promise<void> {
  const bridge = (name: string) =>
    `-- add-br ${name} -- set bridge ${name} datapath_type=netdev fail_mode=standalone`.split(' ');
  const port = (of: string, name: string) => ['--', 'add-port', of, name];
  const peer = UNDERLAY[host === 'hv' ? 'sink' : 'hv'];
  await exec([
    'ovs-vsctl',
    `--db=unix:${databaseSocket(lab, host)}`,
    '--timeout=20',
    ...bridge(UNDERLAY_BRIDGE),
    ...port(UNDERLAY_BRIDGE, 'ul0'),
    ...bridge(INTEGRATION_BRIDGE),
    ...port(INTEGRATION_BRIDGE, TUNNEL_PORT),
    ...`-- set interface ${TUNNEL_PORT} type=vxlan options:remote_ip=${peer} options:key=77`.split(' '),
    ...ports.flatMap((name) => port(INTEGRATION_BRIDGE, name)),
  ]);
  await exec(['ip', '-netns', lab.namespaces[host], '-batch', '-'], {
    input: `addr add ${UNDERLAY[host]}/24 dev ${UNDERLAY_BRIDGE}\nlink set ${UNDERLAY_BRIDGE} up\nlink set ${INTEGRATION_BRIDGE} up\n`,
  });
}
