/** The API: fastify on a Unix socket, for the CLI and whoever may open that socket (mode 0660). */
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import Fastify from 'fastify';
import { SeamlessError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { Journal } from '../saga/journal.ts';
import { eventRoutes } from './events.ts';
import { observationRoutes } from './observations.ts';
import { sendProblem } from './problem.ts';
import { type ManagedVm, vmRoutes } from './vms.ts';

export interface ApiOptions {
  socket: string;
  vms: ReadonlyMap<string, ManagedVm>;
  journal: Journal;
  log: Log;
}

/** Starts to listen; gives what ends it. */
export async function startApi({
  socket,
  vms,
  journal,
  log,
}: ApiOptions): Promise<{ close(): Promise<void> }> {
  const api = Fastify({ forceCloseConnections: true });
  api.setErrorHandler(sendProblem(log));
  api.setNotFoundHandler((request) => {
    throw new SeamlessError('REQUEST_INVALID', `Expected a known path, got ${request.method} ${request.url}`);
  });
  api.get('/livez', () => ({ status: 'live' }));
  vmRoutes(api, vms, journal);
  observationRoutes(api, vms);
  eventRoutes(api, journal);

  if (await answers(socket)) {
    throw new SeamlessError(
      'CONFIG_INVALID',
      `Expected no other orchestrator at ${socket}, got one that answers`,
    );
  }
  mkdirSync(dirname(socket), { recursive: true });
  rmSync(socket, { force: true }); // Left by one that was killed.
  await api.listen({ path: socket });
  chmodSync(socket, 0o660);
  log.info('api.listening', { socket });
  return { close: () => api.close() };
}

function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(socket);
    probe.once('connect', () => resolve(true)).once('error', () => resolve(false));
    probe.once('connect', () => probe.destroy());
  });
}
