/** The API’s routes over the service’s parts; the same for each listener, which only differ in how they tell who calls. */

import type { ServerOptions as HttpsOptions } from 'node:https';
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify';
import type { Log } from '../../common/log.ts';
import type { Metrics } from '../metrics/metrics.ts';
import type { Journal } from '../saga/journal.ts';
import { guard, type Identify } from './access.ts';
import { describeRoutes } from './document.ts';
import { eventRoutes } from './events.ts';
import { healthRoutes, type Readiness } from './health.ts';
import { type Inventory, inventoryRoutes } from './inventory.ts';
import { metricsRoute } from './metrics.ts';
import { observationRoutes } from './observations.ts';
import { operationRoutes } from './operations.ts';
import { pageRoutes } from './page.ts';
import { BODY_BYTES, sendProblem, unknownRoute } from './problem.ts';
import { tokenRoutes } from './tokens/routes.ts';
import type { TokenStore } from './tokens/store.ts';
import { type ManagedVm, vmRoutes } from './vms.ts';

/** Further routes, each with its scope: webhooks. Called once per listener. */
export type ApiPlugin = (app: FastifyInstance) => void | Promise<void>;

export interface ApiDeps {
  vms: ReadonlyMap<string, ManagedVm>;
  journal: Journal;
  log: Log;
  inventory: Inventory;
  tokens: TokenStore;
  ready?: Readiness;
  metrics: Pick<Metrics, 'contentType' | 'text'>;
  plugins?: readonly ApiPlugin[];
}

export async function buildApi(
  deps: ApiDeps,
  identify: Identify,
  options: FastifyServerOptions & { https?: HttpsOptions } = {},
): Promise<FastifyInstance> {
  const { vms, journal, log, inventory, tokens, metrics, ready = () => [], plugins = [] } = deps;
  const app = Fastify({
    ...options,
    forceCloseConnections: true,
    exposeHeadRoutes: false,
    bodyLimit: BODY_BYTES,
    frameworkErrors: sendProblem(log),
    // What is not known is refused, not dropped; a query’s texts become numbers and lists.
    ajv: { customOptions: { removeAdditional: false, coerceTypes: 'array' } },
  });
  app.setErrorHandler(sendProblem(log));
  app.setNotFoundHandler(unknownRoute);
  guard(app, identify);
  await describeRoutes(app);
  pageRoutes(app);
  healthRoutes(app, ready);
  metricsRoute(app, metrics);
  vmRoutes(app, vms, journal);
  observationRoutes(app, vms);
  operationRoutes(app, journal);
  eventRoutes(app, journal);
  inventoryRoutes(app, inventory, vms);
  tokenRoutes(app, tokens, log);
  for (const plugin of plugins) await app.register(async (scope) => plugin(scope));
  return app;
}
