/** A driver over the model of its ports (sagas/world.ts), with the guest’s readings that a test gives. */
import { SeamlessError } from '../../../../common/errors.ts';
import { silentLog } from '../../../../common/log.ts';
import type { HostLoss } from '../../../../orchestrator/host/reachability.ts';
import type { Journal } from '../../../../orchestrator/saga/journal.ts';
import { parkSaga } from '../../../../orchestrator/sagas/park.ts';
import { unparkSaga } from '../../../../orchestrator/sagas/unpark.ts';
import { VmDriver } from '../../../../orchestrator/vm/driver.ts';
import type { DriverDeps, Move } from '../../../../orchestrator/vm/driver-deps.ts';
import { WakeWatch } from '../../../../orchestrator/vm/wake-watch.ts';
import type { Trigger } from '../../../../sink-agent/trigger.ts';
import type { GuestUsage } from '../../../../vm-agent/api.ts';
import type { World } from '../sagas/world.ts';

/** What `sshd` in the sink did. */
export const TRIGGER: Trigger = {
  program: 'sshd',
  pid: 812,
  tid: 812,
  syscall: 'openat',
  nr: 257,
  detail: 'openat("/var/log/lastlog", O_RDWR): opens a file; the VM has the real ones',
  rule: 'file.open',
  fd: { number: 4, kind: 'tcp', target: 'socket:[1347]' },
  client: '203.0.113.7:51312',
};

/** A guest that has done nothing. */
export const IDLE: GuestUsage = {
  bootId: 'b',
  uptimeMs: 100_000,
  gateway: { cpuMs: 50, reaped: 0 },
  others: { cpuMs: 1000, reaped: 900 },
  newest: { pid: 300, program: 'cron', startedMs: 4000 },
  writtenBytes: 1_000_000,
  clientBytes: 0,
};

export interface Driven {
  driver: VmDriver;
  watch: WakeWatch;
  /** What the guest says at each look; the last one over and over. Null: its agent does not answer. */
  readings: (GuestUsage | null | Promise<GuestUsage>)[];
  /** What was asked for. */
  asked: { gateway: number[]; client?: string }[];
  hypervisor: { lost: boolean };
  /** What idle detection was told. */
  moves: Move[];
  /** Of the VM’s host and of its sink server. */
  unreachable: { vm: HostLoss | null; sink: HostLoss | null };
}

export function drive(
  world: World,
  journal: Journal,
  over: {
    windowMs?: number;
    vm?: string;
    onMove?: (move: Move) => void;
    outside?: DriverDeps['outside'];
  } = {},
): Driven {
  const { vm = 'vm1' } = over;
  const ports = world.ports();
  const quick = { persistMs: 20, retryAfterMs: 1 };
  const moves: Move[] = [];
  const readings: Driven['readings'] = [IDLE];
  const asked: Driven['asked'] = [];
  const hypervisor = { lost: false };
  const unreachable: Driven['unreachable'] = { vm: null, sink: null };
  const watch = new WakeWatch({
    vm,
    journal,
    log: silentLog,
    async usage(question) {
      asked.push(question);
      const reading = readings.length > 1 ? readings.shift() : readings[0];
      if (reading) return reading;
      throw new SeamlessError('AGENT_UNREACHABLE', 'vm-agent:vm1 can’t be reached');
    },
    sent: async () => world.sent.vm,
    windowMs: over.windowMs ?? 60_000,
  });
  const driver = new VmDriver({
    vm,
    journal,
    log: silentLog,
    park: { ...parkSaga(ports), ...quick },
    unpark: { ...unparkSaga(ports), ...quick },
    held: () => ports.network.held(),
    sink: () => ports.sinkAgent.call('status', { vm }),
    reassert: ({ sinkPort, listeners, connections }) =>
      ports.network.toSink(sinkPort, listeners, connections),
    hypervisorLost: () => hypervisor.lost,
    hostLost: () => unreachable.vm,
    sinkHostLost: () => unreachable.sink,
    watch,
    outside: over.outside,
    onMove: (move) => {
      moves.push(move);
      over.onMove?.(move);
    },
    onFatal: (error) => {
      throw error;
    },
  });
  return { driver, watch, readings, asked, hypervisor, moves, unreachable };
}
