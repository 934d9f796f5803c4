/**
 * The kept connections to one host's Open vSwitch: OpenFlow to its integration bridge, OVSDB to its database.
 * Both are opened at the start and again when they break, so that the wake path pays for no handshake.
 */
import { dirname, join } from 'node:path';
import type { Log } from '../../common/log.ts';
import { DatapathControl } from '../../ovs/datapath.ts';
import { KeptConnection } from '../../ovs/openflow/kept-connection.ts';
import { type OvsdbConnection, openOvsdb } from '../../ovs/ovsdb/connection.ts';
import type { HostConfig } from '../config.ts';
import { Reachability } from '../host/reachability.ts';
import { Slots } from '../host/ssh/slots.ts';
import type { HostTransport } from '../host/transport.ts';
import { hostTransport } from '../host/transport-config.ts';

const CONNECTING_AT_ONCE = 16;

export interface HostLink {
  readonly transport: HostTransport;
  readonly bridge: string;
  readonly openflow: KeptConnection;
  readonly datapath: DatapathControl;
  readonly reachability: Reachability;
  /** Connections that can wait take turns: thousands of VMs may be there. */
  readonly turns: Slots;
  ovsdb(): Promise<OvsdbConnection>;
  /** Path there of the control socket, as it is now. */
  switchControl(): Promise<string>;
  /** Called after each (re)connection to the bridge, which may have forgotten its flows. */
  onUp(listener: () => void): void;
  close(): Promise<void>;
}

export function hostLink(config: HostConfig, log: Log): HostLink {
  const reachability = new Reachability(config.name);
  const transport = hostTransport(config.name, config.transport, {
    onUp: () => {
      reachability.back();
      log.info('host.up', { host: config.name });
    },
    onDown: (error) => {
      reachability.lost(error);
      log.warn('host.down', { host: config.name, error });
    },
  });
  const listeners = new Set<() => void>();
  const openflow = new KeptConnection({
    name: `${config.bridge} on ${config.name}`,
    connect: (signal) => transport.connect(config.openflowSocket, signal),
    onUp: () => {
      log.info('bridge.up', { host: config.name });
      for (const listener of listeners) listener();
    },
    onDown: (reason) => log.warn('bridge.down', { host: config.name, reason: reason.message }),
  }).start();
  const control = async (signal: AbortSignal) =>
    transport.connect(await controlPath(transport, config.switchControl), signal);
  const datapath = new DatapathControl(control, { name: `${config.bridge} on ${config.name}` });
  let database: Promise<OvsdbConnection> | null = null;

  return {
    transport,
    bridge: config.bridge,
    openflow,
    datapath,
    reachability,
    turns: new Slots(CONNECTING_AT_ONCE),
    async ovsdb() {
      const open = await database?.catch(() => null);
      if (open?.isOpen) return open;
      database = openOvsdb((signal) => transport.connect(config.ovsdbSocket, signal), { name: config.name });
      return database;
    },
    switchControl: () => controlPath(transport, config.switchControl),
    onUp: (listener) => void listeners.add(listener),
    async close() {
      await openflow.close();
      datapath.close();
      (await database?.catch(() => null))?.close();
      await transport.close();
    },
  };
}

/** ovs-vswitchd names its socket after its PID, another one at each start. */
async function controlPath(transport: HostTransport, path: string): Promise<string> {
  if (!path.includes('.PID.')) return path;
  const pid = await transport.readFile(join(dirname(path), 'ovs-vswitchd.pid'));
  return path.replace('.PID.', `.${pid.trim()}.`);
}
