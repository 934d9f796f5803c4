/** A VM as the API shows it. */
import Type from 'typebox';
import type { Listener } from '../../../criu/manifest.ts';
import type { GatewayScan } from '../../../vm-agent/api.ts';
import type { HostLoss } from '../../host/reachability.ts';
import type { HypervisorLoss } from '../../vm/hypervisor-watch.ts';
import type { VmState } from '../../vm/state.ts';
import type { WakeCounts, WakeReport } from '../../vm/wake-report.ts';
import { Next, named, nullable, opaque, PageQuery, strict, Time } from './common.ts';
import { OperationSchema } from './operation.ts';

/** A new state must come here, too. `unknown`: its host can’t be reached, so it may be as recorded, or not. */
const STATES = {
  awake: true,
  parking: true,
  parked: true,
  unparking: true,
  stuck: true,
  gone: true,
  unknown: true,
} satisfies Record<VmState['kind'] | 'unknown', true>;

export const State = Type.Unsafe<VmState['kind'] | 'unknown'>({ type: 'string', enum: Object.keys(STATES) });

const summary = {
  name: Type.String(),
  host: Type.String(),
  sink: Type.String(),
  addresses: Type.Array(Type.String()),
  labels: Type.Record(Type.String(), Type.String()),
  state: State,
  recordedState: Type.Unsafe<VmState['kind']>({
    ...{ type: 'string', enum: Object.keys(STATES).filter((state) => state !== 'unknown') },
    description: 'What was recorded last, whether or not anybody can look.',
  }),
  since: Time,
  hostLost: nullable(
    opaque<HostLoss>(
      'Its host can’t be reached: since when, why, and what to do (`since`, `reason`, `next`).',
    ),
  ),
  operation: nullable(Type.String({ description: 'The operation that runs, or that is stuck.' })),
  stuck: nullable(
    Type.Object({ step: Type.String(), code: Type.String(), message: Type.String(), next: Type.String() }),
  ),
  outside: nullable(
    Type.String({
      description: 'What somebody else did to it that is in the way of a park or a wake, and what to do.',
    }),
  ),
  hypervisorLost: nullable(
    opaque<HypervisorLoss>('Its QEMU has gone: since when, why, and what to do (`since`, `reason`, `next`).'),
  ),
  listeners: Type.Array(opaque<Listener>('Of a parked VM: protocol, address, port, pid, program.')),
};

export const VmSummarySchema = Type.Object(summary, { $id: 'VmSummary', description: 'A VM and its state.' });

export const VmDetailSchema = Type.Object(
  {
    ...summary,
    mac: Type.String(),
    template: Type.String(),
    residentBytes: nullable(
      Type.Number({ description: '`Rss` of QEMU’s smaps_rollup; null when the host does not answer.' }),
    ),
    qemuStatus: nullable(Type.String({ description: 'What QMP says; null when it does not answer.' })),
    lastPark: nullable(named(OperationSchema)),
    lastUnpark: nullable(named(OperationSchema)),
    lastWake: nullable(
      opaque<WakeReport>('What woke the VM last, and whether it was worth it (docs/wakes.md).'),
    ),
    wakes: opaque<WakeCounts>('How its wakes were judged (docs/wakes.md).'),
    gateways: nullable(opaque<GatewayScan>('Only when asked for, and the VM is awake.')),
  },
  { $id: 'VmDetail', description: 'A VM with its last operations and wakes.' },
);

export const VmsPage = Type.Object({ vms: Type.Array(named(VmSummarySchema)), next: Next });

export const VmsQuery = Type.Object(
  {
    state: Type.Optional(Type.Array(State, { maxItems: 10, description: 'Any of these.' })),
    label: Type.Optional(
      Type.Array(Type.String({ pattern: '^[^=]{1,100}(=.{0,200})?$' }), {
        maxItems: 10,
        description: 'All of these: `key=value`, or `key` whatever its value.',
      }),
    ),
    ...PageQuery,
  },
  strict,
);

export const NameParams = Type.Object({ name: Type.String({ minLength: 1, maxLength: 64 }) });

export const ShowQuery = Type.Object(
  { gateways: Type.Optional(Type.Boolean({ description: 'Scan the VM for its gateway processes.' })) },
  strict,
);

export const UnparkBody = Type.Union([
  Type.Null(),
  Type.Object({ force: Type.Optional(Type.Boolean({ description: 'Try again what is stuck.' })) }, strict),
]);
