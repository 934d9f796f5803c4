/** Where the API listens: a Unix socket for the CLI and whoever may open it (mode 0660), and TLS for holders of a token. */
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { SeamlessError } from '../../common/errors.ts';
import { socketCaller } from './access.ts';
import { type ApiDeps, buildApi } from './app.ts';

export interface ApiOptions extends Omit<ApiDeps, 'inventory'> {
  socket: string;
  /** Without it no host and no sink server is listed. */
  inventory?: ApiDeps['inventory'];
}

/** Starts to listen; gives what ends it. */
export async function startApi(options: ApiOptions): Promise<{ close(): Promise<void> }> {
  const { socket, log } = options;
  const deps: ApiDeps = { ...options, inventory: options.inventory ?? NOTHING };
  const local = await buildApi(deps, socketCaller);
  if (await answers(socket)) {
    throw new SeamlessError(
      'CONFIG_INVALID',
      `Expected no other orchestrator at ${socket}, got one that answers`,
    );
  }
  mkdirSync(dirname(socket), { recursive: true });
  rmSync(socket, { force: true }); // Left by one that was killed.
  await local.listen({ path: socket });
  chmodSync(socket, 0o660);
  log.info('api.listening', { socket });
  return { close: () => local.close() };
}

const NOTHING: ApiDeps['inventory'] = { hosts: () => [], sinks: async () => [] };

function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(socket);
    probe.once('connect', () => resolve(true)).once('error', () => resolve(false));
    probe.once('connect', () => probe.destroy());
  });
}
