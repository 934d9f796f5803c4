/** GET /v1/vms, GET /v1/vms/:name, POST /v1/vms/:name/park, POST /v1/vms/:name/unpark */
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import { SeamlessError } from '../../common/errors.ts';
import type { Listener } from '../../criu/manifest.ts';
import type { GatewayScan, ObservationReport } from '../../vm-agent/api.ts';
import type { VmConfig } from '../config.ts';
import type { HostLoss } from '../host/reachability.ts';
import type { Journal } from '../saga/journal.ts';
import type { Reply, VmDriver } from '../vm/driver.ts';
import type { HypervisorLoss } from '../vm/hypervisor-watch.ts';
import { type Operation, operationOf } from '../vm/operation.ts';
import type { VmState } from '../vm/state.ts';
import { countWakes, type WakeCounts, type WakeReport, wakeReport } from '../vm/wake-report.ts';

export interface VmSummary {
  name: string;
  host: string;
  sink: string;
  addresses: string[];
  /** `unknown` while its host can’t be reached: it may be as recorded, or not. What is under way, or stuck, is said as it is. */
  state: VmState['kind'] | 'unknown';
  /** What was recorded last, whether or not anybody can look. */
  recordedState: VmState['kind'];
  since: string;
  /** Set while its host can’t be reached: since when, why, and what to do. */
  hostLost: HostLoss | null;
  /** Of the state’s own data: what runs, what waits, what is stuck and what to do. */
  operation: string | null;
  stuck: { step: string; code: string; message: string; next: string } | null;
  /** Set when its QEMU has gone: since when, why, and what to do. */
  hypervisorLost: HypervisorLoss | null;
  listeners: Listener[];
}

export interface VmDetail extends VmSummary {
  mac: string;
  template: string;
  /** `Rss` of QEMU’s smaps_rollup, and what QMP says; null when the host does not answer. */
  residentBytes: number | null;
  qemuStatus: string | null;
  lastPark: Operation | null;
  lastUnpark: Operation | null;
  /** Of the last unpark: what woke the VM, and whether it was worth it. */
  lastWake: WakeReport | null;
  wakes: WakeCounts;
  /** Only when asked for, and the VM is awake. */
  gateways: GatewayScan | null;
}

export interface ManagedVm {
  config: VmConfig;
  driver: VmDriver;
  hypervisor: { loss: HypervisorLoss | null };
  residentBytes(): Promise<number>;
  qemuStatus(): Promise<string>;
  scan(): Promise<GatewayScan>;
  /** Watches its gateway processes for so many seconds. */
  observe(seconds: number): Promise<ObservationReport>;
}

export interface OperationReply {
  /** True when the VM was as wanted before, or was on its way. */
  already: boolean;
  operation: Operation | null;
  /** Follow `/v1/events` from here to see each step. */
  eventId: number;
}

export const NameParams = Type.Object({ name: Type.String({ minLength: 1, maxLength: 64 }) });
const ShowQuery = Type.Object(
  { gateways: Type.Optional(Type.Boolean({ description: 'Scan the VM for its gateway processes.' })) },
  { additionalProperties: false },
);
const UnparkBody = Type.Union([
  Type.Null(),
  Type.Object(
    { force: Type.Optional(Type.Boolean({ description: 'Try again what is stuck.' })) },
    { additionalProperties: false },
  ),
]);
type Named = { Params: Type.Static<typeof NameParams> };

export function vmRoutes(api: FastifyInstance, vms: ReadonlyMap<string, ManagedVm>, journal: Journal): void {
  const vmOf = (name: string) => findVm(vms, name);
  const answer = (eventId: number, { already, operation }: Reply): OperationReply => ({
    already,
    operation: operation === null ? null : operationOf(journal.ofSaga(operation)),
    eventId,
  });

  api.get('/v1/vms', () => ({ vms: [...vms.values()].map(summaryOf) }));

  api.get<Named & { Querystring: Type.Static<typeof ShowQuery> }>(
    '/v1/vms/:name',
    { schema: { params: NameParams, querystring: ShowQuery } },
    ({ params, query }) => detailOf(vmOf(params.name), journal, query.gateways === true),
  );

  api.post<Named>('/v1/vms/:name/park', { schema: { params: NameParams } }, ({ params }, reply) => {
    const eventId = journal.lastSeq();
    const result = answer(eventId, vmOf(params.name).driver.park());
    return reply.code(result.already ? 200 : 202).send(result);
  });

  api.post<Named & { Body: Type.Static<typeof UnparkBody> }>(
    '/v1/vms/:name/unpark',
    { schema: { params: NameParams, body: UnparkBody } },
    async ({ params, body }, reply) => {
      const eventId = journal.lastSeq();
      const { driver } = vmOf(params.name);
      const result = answer(eventId, await driver.unpark({ force: body?.force === true }));
      return reply.code(result.already ? 200 : 202).send(result);
    },
  );
}

/** Throws `VM_UNKNOWN`. */
export function findVm(vms: ReadonlyMap<string, ManagedVm>, name: string): ManagedVm {
  const vm = vms.get(name);
  if (vm) return vm;
  const known = [...vms.keys()].join(', ') || 'none';
  throw new SeamlessError('VM_UNKNOWN', `Expected a registered VM (${known}), got “${name}”`);
}

function summaryOf({ config, driver, hypervisor }: ManagedVm): VmSummary {
  const { name, host, sink, addresses } = config;
  const state = driver.state;
  return {
    name,
    host,
    sink,
    addresses,
    state: shownState(state.kind, driver.hostLost),
    recordedState: state.kind,
    hostLost: driver.hostLost,
    since: new Date(driver.since).toISOString(),
    operation: 'operation' in state ? state.operation : null,
    stuck:
      state.kind === 'stuck'
        ? { step: state.step, code: state.error.code, message: state.error.message, next: state.next }
        : null,
    hypervisorLost: hypervisor.loss,
    listeners: 'parked' in state ? state.parked.listeners : [],
  };
}

/** At rest nothing says that the VM still is as it was; an operation knows what it does. */
function shownState(kind: VmState['kind'], lost: HostLoss | null): VmSummary['state'] {
  return lost && (kind === 'awake' || kind === 'parked') ? 'unknown' : kind;
}

async function detailOf(vm: ManagedVm, journal: Journal, gateways: boolean): Promise<VmDetail> {
  const { mac, template, name } = vm.config;
  const last = (kind: Operation['kind']) => {
    const saga = journal.lastSaga(name, kind);
    const records = saga === null ? [] : journal.ofSaga(saga);
    return { records, operation: operationOf(records) };
  };
  const unpark = last('unpark');
  const [residentBytes, qemuStatus, scan] = await Promise.all([
    vm.residentBytes().catch(() => null),
    vm.qemuStatus().catch(() => null),
    gateways && vm.driver.state.kind === 'awake' ? vm.scan() : null,
  ]);
  return {
    ...summaryOf(vm),
    mac,
    template,
    residentBytes,
    qemuStatus,
    lastPark: last('park').operation,
    lastUnpark: unpark.operation,
    lastWake: unpark.operation && wakeReport(unpark.records, unpark.operation),
    wakes: countWakes(journal.all(name, 'wakeJudged')),
    gateways: scan,
  };
}
