/** GET /v1/vms, GET /v1/vms/:name, POST /v1/vms/:name/park, POST /v1/vms/:name/unpark */
import type { FastifyInstance, FastifyReply } from 'fastify';
import type Type from 'typebox';
import { SeamlessError } from '../../common/errors.ts';
import type { GatewayScan, ObservationReport } from '../../vm-agent/api.ts';
import type { VmConfig } from '../config.ts';
import type { Journal } from '../saga/journal.ts';
import type { VmDriver } from '../vm/driver.ts';
import type { Reply } from '../vm/driver-deps.ts';
import type { HypervisorLoss } from '../vm/hypervisor-watch.ts';
import { type Operation, operationOf } from '../vm/operation.ts';
import { countWakes, wakeReport } from '../vm/wake-report.ts';
import { type Answer, idempotency } from './idempotency.ts';
import { cursorOf, firstAfter, keyOf } from './pages.ts';
import { named } from './schema/common.ts';
import { IdempotencyHeaders, OperationReplySchema } from './schema/operation.ts';
import {
  NameParams,
  ShowQuery,
  UnparkBody,
  VmDetailSchema,
  VmSummarySchema,
  VmsPage,
  VmsQuery,
} from './schema/vm.ts';

export type VmSummary = Type.Static<typeof VmSummarySchema>;
export type VmDetail = Type.Static<typeof VmDetailSchema>;
export type OperationReply = Type.Static<typeof OperationReplySchema>;

export interface ManagedVm {
  config: VmConfig;
  driver: VmDriver;
  hypervisor: { loss: HypervisorLoss | null };
  residentBytes(): Promise<number>;
  /** Packets that wait for it now; 0 while it has no buffer. */
  bufferDepth?(): Promise<number>;
  qemuStatus(): Promise<string>;
  scan(): Promise<GatewayScan>;
  /** Watches its gateway processes for so many seconds. */
  observe(seconds: number): Promise<ObservationReport>;
}

interface Named {
  Params: Type.Static<typeof NameParams>;
  Headers: Type.Static<typeof IdempotencyHeaders>;
}

const PAGE = 100;

export function vmRoutes(app: FastifyInstance, vms: ReadonlyMap<string, ManagedVm>, journal: Journal): void {
  for (const schema of [VmSummarySchema, VmDetailSchema, OperationReplySchema]) app.addSchema(schema);
  const once = idempotency(journal);
  const send = (reply: FastifyReply, eventId: number, { already, operation }: Reply) => {
    if (operation !== null) reply.header('location', `/v1/operations/${encodeURIComponent(operation)}`);
    const body: OperationReply = {
      already,
      operation: operation === null ? null : operationOf(journal.ofSaga(operation)),
      eventId,
    };
    return reply.code(already ? 200 : 202).send(body);
  };
  /** What both answers look like, and what they need. */
  const operating = (operationId: string, summary: string, body?: Type.TSchema) => ({
    config: { scope: 'operate' as const },
    schema: {
      ...{ tags: ['vms'], operationId, summary, params: NameParams, headers: IdempotencyHeaders },
      ...(body ? { body } : {}),
      response: {
        200: { ...named(OperationReplySchema), description: 'It is so already, or on its way.' },
        202: { ...named(OperationReplySchema), description: 'Begun: follow the operation at `Location`.' },
      },
    },
  });

  app.get<{ Querystring: Type.Static<typeof VmsQuery> }>(
    '/v1/vms',
    {
      config: { scope: 'read' },
      schema: {
        ...{ tags: ['vms'], operationId: 'listVms', summary: 'The registered VMs by name.' },
        ...{ querystring: VmsQuery, response: { 200: VmsPage } },
      },
    },
    listing(vms),
  );

  app.get<Named & { Querystring: Type.Static<typeof ShowQuery> }>(
    '/v1/vms/:name',
    {
      config: { scope: 'read' },
      schema: {
        ...{ tags: ['vms'], operationId: 'getVm', summary: 'One VM, with its last operations and wakes.' },
        ...{ params: NameParams, querystring: ShowQuery, response: { 200: named(VmDetailSchema) } },
      },
    },
    ({ params, query }) => detailOf(findVm(vms, params.name), journal, query.gateways === true),
  );

  app.post<Named>(
    '/v1/vms/:name/park',
    operating('parkVm', 'Move the VM’s gateway processes to its sink, and switch it off.'),
    async ({ params, headers }, reply) => {
      const eventId = journal.lastSeq();
      const { driver } = findVm(vms, params.name);
      const request = { key: headers['idempotency-key'], vm: params.name, what: 'park' };
      return send(
        reply,
        eventId,
        await once(request, async (note): Promise<Answer> => driver.park({ cause: 'manual' }, note)),
      );
    },
  );

  app.post<Named & { Body: Type.Static<typeof UnparkBody> }>(
    '/v1/vms/:name/unpark',
    operating('unparkVm', 'Switch the VM on, and move its gateway processes back.', UnparkBody),
    async ({ params, headers, body }, reply) => {
      const eventId = journal.lastSeq();
      const { driver } = findVm(vms, params.name);
      const force = body?.force === true;
      const what = force ? 'unpark by force' : 'unpark';
      const request = { key: headers['idempotency-key'], vm: params.name, what };
      return send(reply, eventId, await once(request, (note) => driver.unpark({ force }, note)));
    },
  );
}

/** The names are sorted once: the VMs are those of the configuration. */
function listing(vms: ReadonlyMap<string, ManagedVm>) {
  const names = [...vms.keys()].toSorted((a, b) => (a < b ? -1 : 1));
  return ({ query }: { query: Type.Static<typeof VmsQuery> }): Type.Static<typeof VmsPage> => {
    const { state, label, limit = PAGE, cursor } = query;
    const found: ManagedVm[] = [];
    // One more than is wanted tells whether there is another page.
    const first = cursor === undefined ? 0 : firstAfter(names, keyOf(cursor, 'string'));
    for (let at = first; at < names.length && found.length <= limit; at += 1) {
      const vm = vms.get(names[at] as string);
      if (vm && isWanted(vm, state, label)) found.push(vm);
    }
    const page = found.slice(0, limit);
    const last = page.at(-1)?.config.name ?? '';
    return { vms: page.map(summaryOf), next: found.length > limit ? cursorOf(last) : null };
  };
}

function isWanted(
  { config, driver }: ManagedVm,
  states?: readonly string[],
  wanted?: readonly string[],
): boolean {
  if (states && !states.includes(shownState(driver))) return false;
  const labels = labelsOf(config);
  return (wanted ?? []).every((label) => {
    const [key = '', ...value] = label.split('=');
    return value.length === 0 ? key in labels : labels[key] === value.join('=');
  });
}

function labelsOf(config: VmConfig): Record<string, string> {
  return (config as { labels?: Record<string, string> }).labels ?? {};
}

/** Throws `VM_UNKNOWN`. */
export function findVm(vms: ReadonlyMap<string, ManagedVm>, name: string): ManagedVm {
  const vm = vms.get(name);
  if (vm) return vm;
  const names = [...vms.keys()];
  const known = names.length > 20 ? `one of ${names.length}` : names.join(', ') || 'none';
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
    labels: labelsOf(config),
    state: shownState(driver),
    recordedState: state.kind,
    hostLost: driver.hostLost,
    since: new Date(driver.since).toISOString(),
    operation: 'operation' in state ? state.operation : null,
    stuck:
      state.kind === 'stuck'
        ? { step: state.step, code: state.error.code, message: state.error.message, next: state.next }
        : null,
    hypervisorLost: hypervisor.loss,
    outside: driver.outside,
    listeners: 'parked' in state ? state.parked.listeners : [],
  };
}

/** At rest nothing says that the VM still is as it was; an operation knows what it does. */
export function shownState({ state: { kind }, hostLost }: VmDriver): VmSummary['state'] {
  return hostLost && (kind === 'awake' || kind === 'parked') ? 'unknown' : kind;
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
