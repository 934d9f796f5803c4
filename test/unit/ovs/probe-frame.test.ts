/** The frame by which a sink is asked whether it can be reached, byte by byte. */
import { expect, test } from 'vitest';
import { probeFrame, probeMac } from '../../../ovs/probe-frame.ts';

const TO = '52:54:00:00:00:02';

test('each VM’s probe comes from an address of its own that no interface can have been given by its maker', () => {
  const macs = ['vm1', 'vm2', 'web.example'].map(probeMac);
  expect(new Set(macs).size).toBe(3);
  for (const mac of macs) expect(Number.parseInt(mac.slice(0, 2), 16) & 0b11).toBe(0b10);
});

test('an ARP probe has no sender’s address, and is as long as a full packet', () => {
  const frame = probeFrame('06:00:00:00:00:01', TO, '10.7.0.2', 1500);
  expect(frame).toHaveLength(1514);
  expect(frame.subarray(0, 42).toString('hex')).toBe(
    '525400000002060000000001' +
      '0806' +
      '0001080006040001' +
      '060000000001' +
      '00000000' +
      '000000000000' +
      '0a070002',
  );
  expect(frame.subarray(42).every((byte) => byte === 0)).toBe(true);
});

test('a neighbour solicitation asks the VM’s address, and its checksum holds', () => {
  const frame = probeFrame('06:00:00:00:00:01', TO, 'fd07::2', 46);
  expect(frame.subarray(12, 22).toString('hex')).toBe('86dd' + '60000000' + '0020' + '3aff');
  expect(frame.subarray(22, 38).toString('hex')).toBe('fe800000000000000000060000000001');
  expect(frame.subarray(38, 54).toString('hex')).toBe('fd070000000000000000000000000002');
  const message = frame.subarray(54, 86);
  expect(message.readUInt8(0)).toBe(135);
  const summed = Buffer.concat([frame.subarray(22, 54), Buffer.from([0, 0, 0, 32, 0, 0, 0, 58]), message]);
  let sum = 0;
  for (let at = 0; at < summed.length; at += 2) sum += summed.readUInt16BE(at);
  expect((sum & 0xffff) + (sum >>> 16)).toBe(0xffff);
});
