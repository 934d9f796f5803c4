/** The API over drivers of model VMs (unit/orchestrator/sagas/world.ts), on a socket of its own and, when asked for, by TLS. */

import { readFileSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { silentLog } from '../../../../common/log.ts';
import { issueCertificate, makeAuthority } from '../../../../lab/pki.ts';
import type { ApiPlugin } from '../../../../orchestrator/api/app.ts';
import { policyRoutes } from '../../../../orchestrator/api/policy.ts';
import { type Api, startApi } from '../../../../orchestrator/api/server.ts';
import type { ManagedVm } from '../../../../orchestrator/api/vms.ts';
import { type ApiClient, apiClient } from '../../../../orchestrator/cli/client.ts';
import type { VmConfig } from '../../../../orchestrator/config.ts';
import { explainRoutes } from '../../../../orchestrator/idle/route.ts';
import { memoryRoutes } from '../../../../orchestrator/memory/route.ts';
import type { Fleet } from '../../../../orchestrator/registry/fleet.ts';
import { registryRoutes } from '../../../../orchestrator/registry/routes.ts';
import { type Journal, openJournal } from '../../../../orchestrator/saga/journal.ts';
import { receiverRoutes } from '../../../../orchestrator/webhooks/receivers.ts';
import { webhookRoutes } from '../../../../orchestrator/webhooks/routes.ts';
import { temporaryFolder } from '../../../unit/orchestrator/saga/suite.ts';
import { World } from '../../../unit/orchestrator/sagas/world.ts';
import { type Driven, drive } from '../../../unit/orchestrator/vm/driven.ts';

export interface Served {
  folder: string;
  socket: string;
  api: Api;
  client: ApiClient;
  journal: Journal;
  vms: Map<string, ModelVm>;
  /** Ends the service and begins it again over the same journal. */
  restart(): Promise<void>;
}

type ModelVm = ManagedVm & { world: World; unreachable: Driven['unreachable'] };

export interface ServedOptions {
  vms?: Record<string, Pick<VmConfig, 'openstack'> & { labels?: Record<string, string> }>;
  tls?: boolean;
  plugins?: readonly ApiPlugin[];
  /** Made anew at each start, over its journal and drivers. */
  plugin?: (parts: Pick<Served, 'folder' | 'journal' | 'vms'>) => ApiPlugin;
}

/** Asked nothing by routes that are only described. */
const NOTHING_KEPT = {} as Journal;
const NO_FLEET = {} as Fleet;

/** The routes that the service mounts besides, for the document; what they act on is tested elsewhere. */
const SERVICE_PLUGINS: readonly ApiPlugin[] = [
  (app) => explainRoutes(app, { explain: () => expect.unreachable() }),
  (app) => memoryRoutes(app, () => undefined),
  (app) => policyRoutes(app, { policy: null, attention: { policyOf: () => null } }, new Map()),
  (app) => receiverRoutes(app, { status: () => [], resend: () => 0 }),
  (app) =>
    webhookRoutes(app, { vms: new Map(), journal: NOTHING_KEPT, log: silentLog, config: {}, cloud: null }),
  (app) => registryRoutes(app, { fleet: NO_FLEET, stateDir: '', examine: async () => [] }),
];

export async function serve({
  vms = { vm1: {} },
  tls = false,
  plugins = SERVICE_PLUGINS,
  plugin,
}: ServedOptions = {}): Promise<Served> {
  const folder = temporaryFolder();
  const socket = join(folder, 'seamless.sock');
  let listen: Parameters<typeof startApi>[0]['listen'];
  if (tls) {
    await makeAuthority(folder);
    const { cert, key } = await issueCertificate(folder, 'server', 'server', ['127.0.0.1']);
    listen = { address: '127.0.0.1', port: 0, tls: { cert, key, clientCa: join(folder, 'ca.crt') } };
  }
  const start = async () => {
    const journal = openJournal(join(folder, 'journal.sqlite'));
    const managed = new Map(Object.entries(vms).map(([name, more]) => [name, modelVm(journal, name, more)]));
    for (const { driver } of managed.values()) driver.start();
    const made = plugin ? [plugin({ folder, journal, vms: managed })] : [];
    const api = await startApi({
      ...{ socket, vms: managed, journal, log: silentLog, listen },
      plugins: [...plugins, ...made],
    });
    return { journal, api, vms: managed };
  };
  const stop = async () => {
    for (const { driver } of served.vms.values()) driver.stop();
    await served.api.close();
    await Promise.all([...served.vms.values()].map(({ driver }) => driver.idle()));
    served.journal.close();
  };
  const served: Served = {
    ...{ folder, socket, client: apiClient(socket) },
    ...(await start()),
    async restart() {
      await stop();
      Object.assign(served, await start());
    },
  };
  onTestFinished(stop);
  return served;
}

function modelVm(journal: Journal, name: string, more: object): ModelVm {
  const world = new World();
  const config = { name, host: 'hv', sink: 'sink1', addresses: ['10.77.0.11/24'], mac: 'm', template: 't' };
  const server = (more as Pick<VmConfig, 'openstack'>).openstack?.serverId;
  const outside = server
    ? { id: server, home: 'hv', isGone: async () => false, forget: async () => {} }
    : undefined;
  const { driver, unreachable } = drive(world, journal, { vm: name, outside });
  return {
    ...{ world, unreachable, driver },
    config: { ...config, ...more } as unknown as VmConfig,
    hypervisor: { loss: null },
    residentBytes: async () => 100 * 1024 * 1024,
    qemuStatus: async () => (world.power === 'on' ? 'running' : 'paused'),
    observe: async () => ({ observations: [], processes: 0, threads: 0, calls: 0, ms: 0 }),
    scan: async () => ({ processes: [], listeners: [], refusals: [], imageBytes: 0 }),
  };
}

export interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Record<string, unknown>;
}

/** One request by TLS, as a client elsewhere makes it. */
export function byTls(
  { api, folder }: Served,
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body?: string,
  certificate: { cert?: Buffer; key?: Buffer } = {},
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const ca = readFileSync(join(folder, 'ca.crt'));
  const request = httpsRequest({
    host: '127.0.0.1',
    port: api.address?.port,
    ca,
    method,
    path,
    headers,
    agent: false,
    ...certificate,
  });
  request.once('error', reject);
  request.once('response', async (response) => {
    let text = '';
    for await (const chunk of response) text += chunk;
    const { statusCode: status = 0, headers: got } = response;
    resolve({ status, headers: got, body: text === '' ? {} : JSON.parse(text) });
  });
  request.end(body);
  return promise;
}

/** Each sample of /metrics by its name and labels. */
export async function metricsOf({ client }: Served): Promise<Record<string, number>> {
  const lines = (await client.text('/metrics'))
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  return Object.fromEntries(
    lines.map((line) => {
      const at = line.lastIndexOf(' ');
      return [line.slice(0, at), Number(line.slice(at + 1))];
    }),
  );
}

/** A token that is made for the occasion. */
export async function tokenOf({ client }: Served, scope: string, days?: number): Promise<string> {
  const body = { name: `for-${scope}-${days ?? 'ever'}`, scope, ...(days ? { days } : {}) };
  return (await client.post<{ secret: string }>('/v1/tokens', body)).secret;
}

/** `fetch` that trusts the test's own CA. */
export function fetchByTls(served: Served): (request: Request) => Promise<Response> {
  return async (request) => {
    const { pathname, search } = new URL(request.url);
    const text = request.body === null ? undefined : await request.text();
    const headers = Object.fromEntries(request.headers);
    const { status, body } = await byTls(served, request.method, pathname + search, headers, text);
    return Response.json(body, { status });
  };
}
