import { expect, test } from 'vitest';
import type { HeldPacket } from '../../../../orchestrator/sagas/ports.ts';
import {
  callAndReason,
  heldWake,
  isPlanned,
  manualWake,
  plannedWake,
  sinkWake,
  synWake,
  wakeLine,
} from '../../../../orchestrator/vm/wake.ts';
import { TRIGGER } from './driven.ts';

const SYN = { vmName: 'vm1', mac: 'm', at: new Date(0) };
const HELD: HeldPacket = {
  protocol: 'udp',
  syn: false,
  source: '10.77.0.2',
  sourcePort: 5353,
  destination: '10.77.0.11',
  port: 53,
};

test('a call names its program, whom it served, its arguments and the reason', () => {
  expect(wakeLine(sinkWake({ trigger: TRIGGER }))).toBe(
    'woken by sshd[812] for 203.0.113.7:51312: openat("/var/log/lastlog", O_RDWR): opens a file; the VM has the real ones',
  );
  const { client: _client, ...nobody } = TRIGGER;
  expect(wakeLine(sinkWake({ trigger: nobody }))).toMatch(/^woken by sshd\[812\]: openat/);
});

test('a connection names both ends, in either family, and the moment of the packet', () => {
  const wake = synWake({
    ...SYN,
    source: 'fd77::2',
    sourcePort: 51312,
    destination: 'fd77::11',
    port: 22,
  });
  expect(wakeLine(wake)).toBe('woken by a SYN from [fd77::2]:51312 to port 22 of fd77::11');
  expect(wake).toMatchObject({ at: '1970-01-01T00:00:00.000Z', trigger: { client: '[fd77::2]:51312' } });
});

test('what a look found waiting is said to be found, and what it was', () => {
  const found = (first: HeldPacket | null, packets = 2) =>
    wakeLine(heldWake({ packets, connections: first?.syn ? 1 : 0, first }));
  expect(found({ ...HELD, protocol: 'tcp', syn: true, port: 22 })).toBe(
    'woken by a SYN from 10.77.0.2:5353 to port 22 of 10.77.0.11, found waiting',
  );
  expect(found(HELD)).toBe(
    'woken by packets: 2 waiting for the VM, the first udp from 10.77.0.2:5353 to port 53 of 10.77.0.11',
  );
  expect(found({ ...HELD, protocol: 'icmp', sourcePort: 0, port: 0 })).toBe(
    'woken by packets: 2 waiting for the VM, the first icmp from 10.77.0.2 to 10.77.0.11',
  );
  expect(found(null, 1)).toBe('woken by packets: 1 waiting for the VM');
});

test('what was known beforehand is said, and is not judged by the minute after it', () => {
  const wake = plannedWake('timer', 'its timer backup.timer is due at 2026-11-21T18:40:00.000Z (timer)');
  expect(wakeLine(wake)).toBe(
    'woken because its timer backup.timer is due at 2026-11-21T18:40:00.000Z (timer)',
  );
  expect(wake.trigger).toMatchObject({ rule: 'timer.due', program: null });
  const planned = (['timer', 'lease', 'forecast', 'policy', 'manual'] as const).every(isPlanned);
  const asked = (['syscall', 'syn', 'packets', 'sink'] as const).some(isPlanned);
  expect([planned, asked]).toEqual([true, false]);
});

test('a sink that stopped without a call, and a wake by hand, are no call', () => {
  expect(wakeLine(sinkWake({ trigger: null, reason: 'the syscall filter ended: no reason given' }))).toBe(
    'woken because its sink stopped: the syscall filter ended: no reason given',
  );
  expect(wakeLine(sinkWake({ trigger: null }))).toBe('woken because its sink stopped: nobody said why');
  expect(wakeLine(manualWake())).toBe('woken by hand');
});

test.each([
  ['openat("/srv/a: b", O_RDONLY): opens a file', 'openat("/srv/a: b", O_RDONLY)', 'opens a file'],
  ['SIGTERM: a signal ends the process', 'SIGTERM', 'a signal ends the process'],
  ['a process was killed from outside', null, 'a process was killed from outside'],
])('%s is a call and a reason', (detail, call, reason) => {
  expect(callAndReason(detail)).toEqual({ call, reason });
});
