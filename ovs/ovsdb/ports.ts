/** Ports of a bridge, ensured: asking for what is there already changes nothing. */
import { SeamlessError } from '../../common/errors.ts';
import type { Operation, OvsdbConnection } from './connection.ts';

export interface PortSettings {
  /** `internal`, `vxlan`, …; a network device that exists unless told. */
  type?: string;
  mtu?: number;
  /** Of a tunnel: `remote_ip`, `key`, … */
  options?: Record<string, string>;
  externalIds?: Record<string, string>;
  /** Milliseconds until the switch must have taken it in; 5 s unless told. */
  timeoutMs?: number;
}

/**
 * Adds `port` to `bridge`, or brings its settings in line, and waits until the switch has given it an OpenFlow port
 * number, which is returned. Throws `HOST_UNREACHABLE`: no such bridge, the port is on another one, or the
 * device can't be opened (with the switch's own words).
 */
export async function addPort(
  ovsdb: OvsdbConnection,
  bridge: string,
  port: string,
  settings: PortSettings = {},
): Promise<number> {
  const owner = await bridgeOfPort(ovsdb, bridge, port);
  if (owner !== undefined && owner !== bridge) {
    throw new SeamlessError('HOST_UNREACHABLE', `expected port ${port} on ${bridge}, got it on ${owner}`);
  }
  await ovsdb.transact(owner === bridge ? updating(port, settings) : inserting(bridge, port, settings));
  return assignedNumber(ovsdb, port, settings.timeoutMs ?? 5000);
}

/** Removes `port` from `bridge`; resolves with whether it was there, once the switch has let go of it. */
export async function deletePort(
  ovsdb: OvsdbConnection,
  bridge: string,
  port: string,
  timeoutMs = 5000,
): Promise<boolean> {
  const [found] = await ovsdb.transact([
    { op: 'select', table: 'Port', where: named(port), columns: ['_uuid'] },
  ]);
  const uuid = found?.rows?.[0]?._uuid;
  if (uuid === undefined || (await bridgeOfPort(ovsdb, bridge, port)) !== bridge) return false;
  const results = await ovsdb.transact([
    { op: 'mutate', table: 'Bridge', where: named(bridge), mutations: [['ports', 'delete', uuid]] },
    { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['next_cfg', '+=', 1]] },
    { op: 'select', table: 'Open_vSwitch', where: [], columns: ['next_cfg'] },
  ]);
  await configurationTaken(ovsdb, results[2]?.rows?.[0]?.next_cfg as number, timeoutMs);
  return true;
}

export async function portExists(ovsdb: OvsdbConnection, bridge: string, port: string): Promise<boolean> {
  return (await bridgeOfPort(ovsdb, bridge, port)) === bridge;
}

/** Where the switch forwards what is for `bridge`: in the kernel or by itself. */
export async function datapathOf(ovsdb: OvsdbConnection, bridge: string): Promise<'kernel' | 'userspace'> {
  const [found] = await ovsdb.transact([
    { op: 'select', table: 'Bridge', where: named(bridge), columns: ['datapath_type'] },
  ]);
  return found?.rows?.[0]?.datapath_type === 'netdev' ? 'userspace' : 'kernel'; // `system`, or nothing
}

/** The bridge that has `port`; throws when `bridge`, on which it is looked for, does not exist. */
async function bridgeOfPort(
  ovsdb: OvsdbConnection,
  bridge: string,
  port: string,
): Promise<string | undefined> {
  const [bridges, ports] = await ovsdb.transact([
    { op: 'select', table: 'Bridge', where: [], columns: ['name', 'ports'] },
    { op: 'select', table: 'Port', where: named(port), columns: ['_uuid'] },
  ]);
  const rows = bridges?.rows ?? [];
  if (!rows.some((row) => row.name === bridge)) {
    const there = rows.map((row) => row.name).join(', ');
    throw new SeamlessError('HOST_UNREACHABLE', `expected a bridge ${bridge}, got ${there || 'none'}`);
  }
  const uuid = (ports?.rows?.[0]?._uuid as ['uuid', string] | undefined)?.[1];
  const owner = rows.find((row) => uuid !== undefined && uuidsOf(row.ports).includes(uuid));
  return owner?.name as string | undefined;
}

function inserting(bridge: string, port: string, settings: PortSettings): Operation[] {
  const interfaceRow = { name: port, ...columnsOf(settings) };
  return [
    { op: 'insert', table: 'Interface', row: interfaceRow, 'uuid-name': 'new_interface' },
    {
      op: 'insert',
      table: 'Port',
      row: { name: port, interfaces: ['named-uuid', 'new_interface'] },
      'uuid-name': 'new_port',
    },
    {
      op: 'mutate',
      table: 'Bridge',
      where: named(bridge),
      mutations: [['ports', 'insert', ['named-uuid', 'new_port']]],
    },
  ];
}

function updating(port: string, settings: PortSettings): Operation[] {
  return [{ op: 'update', table: 'Interface', where: named(port), row: columnsOf(settings) }];
}

function columnsOf({ type, mtu, options, externalIds }: PortSettings): Record<string, unknown> {
  return {
    type: type ?? '',
    ...(mtu === undefined ? {} : { mtu_request: mtu }),
    ...(options ? { options: map(options) } : {}),
    ...(externalIds ? { external_ids: map(externalIds) } : {}),
  };
}

/** `wait` makes the server itself tell us when the switch has filled the column in. */
async function assignedNumber(ovsdb: OvsdbConnection, port: string, timeoutMs: number): Promise<number> {
  const [, selected] = await ovsdb
    .transact(
      [
        {
          op: 'wait',
          table: 'Interface',
          where: named(port),
          columns: ['ofport'],
          until: '!=',
          rows: [{ ofport: ['set', []] }],
          timeout: timeoutMs,
        },
        { op: 'select', table: 'Interface', where: named(port), columns: ['ofport', 'error'] },
      ],
      timeoutMs + 1000,
    )
    .catch((cause) => {
      throw new SeamlessError(
        'TIMEOUT',
        `the switch did not take in port ${port} in ${timeoutMs} ms; does ovs-vswitchd run?`,
        { cause },
      );
    });
  const row = selected?.rows?.[0];
  if (typeof row?.ofport === 'number' && row.ofport > 0) return row.ofport;
  throw new SeamlessError('HOST_UNREACHABLE', `the switch can't open port ${port}: ${String(row?.error)}`);
}

async function configurationTaken(ovsdb: OvsdbConnection, wanted: number, timeoutMs: number): Promise<void> {
  const wait = {
    op: 'wait',
    table: 'Open_vSwitch',
    where: [['cur_cfg', '>=', wanted]],
    columns: ['cur_cfg'],
    until: '!=',
    rows: [],
    timeout: timeoutMs,
  };
  await ovsdb.transact([wait], timeoutMs + 1000).catch((cause) => {
    throw new SeamlessError('TIMEOUT', `the switch did not take in the change in ${timeoutMs} ms`, { cause });
  });
}

function named(name: string): [[string, string, string]] {
  return [['name', '==', name]];
}

function map(entries: Record<string, string>): ['map', [string, string][]] {
  return ['map', Object.entries(entries)];
}

/** A set column with one member comes without its `["set", …]`. */
function uuidsOf(column: unknown): string[] {
  const [kind, value] = column as ['uuid', string] | ['set', ['uuid', string][]];
  return kind === 'uuid' ? [value] : value.map(([, uuid]) => uuid);
}
