/** Where the API listens: a Unix socket for the CLI and whoever may open it (mode 0660), and TLS for holders of a token. */
import { chmodSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, connect } from 'node:net';
import { dirname, join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { SeamlessError } from '../../common/errors.ts';
import type { ListenConfig } from '../config.ts';
import { startMetrics } from '../metrics/metrics.ts';
import { socketCaller } from './access.ts';
import { type ApiDeps, buildApi } from './app.ts';
import { bearerCaller } from './tokens/bearer.ts';
import { TokenStore } from './tokens/store.ts';

export interface ApiOptions extends Omit<ApiDeps, 'inventory' | 'tokens' | 'metrics'> {
  socket: string;
  /** Folder of the tokens; beside the socket unless told. */
  stateDir?: string;
  /** Without it nobody reaches the API over the network. */
  listen?: ListenConfig | undefined;
  /** Without it no host and no sink server is listed. */
  inventory?: ApiDeps['inventory'];
}

export interface Api {
  /** Where TLS listens; null when it doesn’t. */
  address: { address: string; port: number } | null;
  close(): Promise<void>;
}

/** Starts to listen; gives what ends it. */
export async function startApi(options: ApiOptions): Promise<Api> {
  const { socket, stateDir = dirname(socket), listen, log } = options;
  const tokens = new TokenStore(join(stateDir, 'tokens.json'));
  const { vms, journal, inventory = NOTHING } = options;
  const metrics = startMetrics({ vms, journal, hosts: () => inventory.hosts() });
  const deps: ApiDeps = { ...options, tokens, inventory, metrics };
  const local = await buildApi(deps, socketCaller);
  await listenOnSocket(local, socket);
  log.info('api.listening', { socket });
  const apps = [local];
  const close = async () => {
    metrics.close();
    await Promise.all(apps.map((app) => app.close()));
  };
  if (!listen) return { address: null, close };
  try {
    const remote = await buildApi(deps, bearerCaller(tokens), { https: tlsOptions(listen) });
    apps.push(remote);
    await remote.listen({ host: listen.address, port: listen.port });
    const { address, port } = remote.server.address() as AddressInfo;
    log.info('api.listening', { address, port });
    return { address: { address, port }, close };
  } catch (thrown) {
    await close();
    throw thrown;
  }
}

async function listenOnSocket(app: FastifyInstance, socket: string): Promise<void> {
  if (await answers(socket)) {
    throw new SeamlessError(
      'CONFIG_INVALID',
      `Expected no other orchestrator at ${socket}, got one that answers`,
    );
  }
  mkdirSync(dirname(socket), { recursive: true });
  rmSync(socket, { force: true }); // Left by one that was killed.
  await app.listen({ path: socket });
  chmodSync(socket, 0o660);
}

/** A client’s certificate is asked for when somebody could have one (webhooks), and never enough by itself. */
function tlsOptions({ tls: { cert, key, clientCa } }: ListenConfig) {
  const pem = (path: string) => {
    try {
      return readFileSync(path);
    } catch (cause) {
      throw new SeamlessError('CONFIG_INVALID', `Expected a readable PEM file at ${path}`, { cause });
    }
  };
  const clients = clientCa ? { ca: pem(clientCa), requestCert: true, rejectUnauthorized: false } : {};
  return { cert: pem(cert), key: pem(key), minVersion: 'TLSv1.2' as const, ...clients };
}

const NOTHING: ApiDeps['inventory'] = { hosts: () => [], sinks: async () => [] };

function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(socket);
    probe.once('connect', () => resolve(true)).once('error', () => resolve(false));
    probe.once('connect', () => probe.destroy());
  });
}
