/** The OVSDB client against a real ovsdb-server and ovs-vswitchd. */
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { type OvsdbConnection, openOvsdb } from '../../../ovs/ovsdb/connection.ts';
import { addPort, deletePort, portExists } from '../../../ovs/ovsdb/ports.ts';
import { startTwoHosts, type TwoHosts } from './two-hosts.ts';

let hosts: TwoHosts;
let ovsdb: OvsdbConnection;

beforeAll(async () => {
  hosts = await startTwoHosts('slo-db');
  ovsdb = await openOvsdb(hosts.sink.connectOvsdb, { name: 'sink' });
});

afterAll(async () => {
  ovsdb?.close();
  await hosts?.stop();
});

const view = (...args: string[]) => hosts.sink.vsctl(...args).then((text) => text.trim());

test('a port is added once, has the number that the switch gave, and is deleted once', async () => {
  const settings = { type: 'internal', mtu: 1400, externalIds: { 'seamless-vm': 'vm1' } };
  const number = await addPort(ovsdb, 'br-int', 'sink7', settings);
  expect(await addPort(ovsdb, 'br-int', 'sink7', settings)).toBe(number);
  expect(await view('get', 'interface', 'sink7', 'ofport')).toBe(String(number));
  expect(await view('get', 'interface', 'sink7', 'mtu_request')).toBe('1400');
  expect(await view('get', 'interface', 'sink7', 'external_ids')).toBe('{seamless-vm=vm1}');
  expect(await view('port-to-br', 'sink7')).toBe('br-int');
  expect(await portExists(ovsdb, 'br-int', 'sink7')).toBe(true);

  expect(await deletePort(ovsdb, 'br-int', 'sink7')).toBe(true);
  expect(await deletePort(ovsdb, 'br-int', 'sink7')).toBe(false);
  expect(await portExists(ovsdb, 'br-int', 'sink7')).toBe(false);
  await expect(hosts.sink.host.run(['ip', 'link', 'show', 'sink7'])).rejects.toThrow('does not exist');
});

test('a tunnel port gets its options, and new ones when asked again', async () => {
  onTestFinished(async () => void (await deletePort(ovsdb, 'br-int', 'vx7')));
  await addPort(ovsdb, 'br-int', 'vx7', { type: 'vxlan', options: { remote_ip: '192.168.77.7', key: '7' } });
  await addPort(ovsdb, 'br-int', 'vx7', { type: 'vxlan', options: { remote_ip: '192.168.77.8', key: '7' } });
  expect(await view('get', 'interface', 'vx7', 'options')).toBe('{key="7", remote_ip="192.168.77.8"}');
});

test('a device that is not there is refused in the switch’s own words', async () => {
  onTestFinished(async () => void (await deletePort(ovsdb, 'br-int', 'nosuch7')));
  await expect(addPort(ovsdb, 'br-int', 'nosuch7')).rejects.toThrow(
    /can't open port nosuch7: .*No such device/,
  );
});

test('an unknown bridge, and a port that is on another one, are refused', async () => {
  await expect(addPort(ovsdb, 'br-none', 'x7')).rejects.toThrow('expected a bridge br-none, got br-');
  await expect(addPort(ovsdb, 'br-int', 'phy0')).rejects.toThrow(
    'expected port phy0 on br-int, got it on br-phy',
  );
});

test('a refused transaction says what the server said, and the connection goes on', async () => {
  const refused = ovsdb.transact([{ op: 'insert', table: 'Nonsense', row: {} }]);
  await expect(refused).rejects.toMatchObject({
    code: 'HOST_UNREACHABLE',
    message: expect.stringMatching('Nonsense'),
  });
  expect(await ovsdb.call('echo', ['still here'])).toEqual(['still here']);
});

test('calls under way are rejected when the connection ends', async () => {
  const other = await openOvsdb(hosts.sink.connectOvsdb, { name: 'sink' });
  const call = other.call('echo', [1]);
  other.close();
  await expect(call).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
  await expect(other.call('echo', [1])).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
});
