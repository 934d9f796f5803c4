/** The API's client: HTTP over the service's Unix socket, or HTTPS with a token; and its events. */
import { existsSync, readFileSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { createInterface } from 'node:readline';
import { ERRORS, type ErrorCode, SeamlessError } from '../../common/errors.ts';
import type { ApiEvent } from '../api/events.ts';
import type { Problem } from '../api/problem.ts';

export interface ApiClient {
  /** For messages. */
  readonly where: string;
  get<T>(path: string): Promise<T>;
  /** As it comes. */
  text(path: string): Promise<string>;
  post<T>(path: string, body?: object): Promise<T>;
  delete<T>(path: string): Promise<T>;
  /** Events after `after` (from now on when null), until the stream ends or the caller stops. */
  events(query: EventQuery): AsyncGenerator<ApiEvent>;
}

export interface EventQuery {
  vm?: string | undefined;
  after: number | null;
  follow: boolean;
  /** Each step of each operation, unless told not to. */
  steps?: boolean;
  signal?: AbortSignal;
}

/** A service elsewhere, and what proves who we are and who it is. */
export interface RemoteServer {
  /** `https://seamless.example:8443` */
  server: string;
  tokenFile: string | undefined;
  /** PEM file of the server’s CA, where the system does not know it. */
  caFile?: string | undefined;
}

const USUAL_SOCKETS = ['/run/seamless-lab/seamless.sock', '/run/seamless/seamless.sock'] as const;

/** The socket that was named, else the first usual one that is there. */
export function findSocket(named: string | undefined, env: NodeJS.ProcessEnv): string {
  const [usualLab, installed] = USUAL_SOCKETS;
  const lab = env.SEAMLESS_LAB ? `/run/seamless-lab-${env.SEAMLESS_LAB}/seamless.sock` : usualLab;
  return named ?? env.SEAMLESS_SOCKET ?? (existsSync(lab) ? lab : installed);
}

export function apiClient(socket: string): ApiClient {
  return clientOver(socket, (options) => httpRequest({ socketPath: socket, ...options }));
}

export function remoteClient({ server, tokenFile, caFile }: RemoteServer): ApiClient {
  const url = URL.canParse(server) ? new URL(server) : null;
  if (url?.protocol !== 'https:') {
    throw new SeamlessError('REQUEST_INVALID', `Expected --server https://HOST:PORT, got “${server}”`);
  }
  if (tokenFile === undefined) {
    throw new SeamlessError('REQUEST_INVALID', `Expected --token-file FILE for ${server}`);
  }
  const token = textFile(tokenFile, '--token-file').trim();
  const common = {
    ...{ host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port || 443 },
    ...(caFile ? { ca: textFile(caFile, '--ca-file') } : {}),
  };
  return clientOver(server, ({ headers, ...options }) =>
    httpsRequest({ ...common, ...options, headers: { ...headers, authorization: `Bearer ${token}` } }),
  );
}

function clientOver(
  where: string,
  open: (options: RequestOptions & { headers: Record<string, string> }) => ReturnType<typeof httpRequest>,
): ApiClient {
  const send = (method: string, path: string, body?: object, signal?: AbortSignal) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const headers: Record<string, string> = body ? { 'content-type': 'application/json' } : {};
      // A kept connection may be one to a service that has ended since.
      const request = open({ agent: false, method, path, headers, ...(signal ? { signal } : {}) });
      request.once('error', (cause) => reject(notThere(where, cause)));
      request.once('response', (response) => {
        if ((response.statusCode ?? 500) < 400) return resolve(response);
        textOf(response).then((text) => reject(errorOf(text)), reject);
      });
      request.end(body ? JSON.stringify(body) : undefined);
    });
  const json = async <T>(method: string, path: string, body?: object): Promise<T> =>
    JSON.parse(await textOf(await send(method, path, body))) as T;
  return {
    where,
    get: (path) => json('GET', path),
    text: async (path) => textOf(await send('GET', path)),
    post: (path, body) => json('POST', path, body),
    delete: (path) => json('DELETE', path),
    async *events({ vm, after, follow, steps = true, signal }) {
      const query = new URLSearchParams({ follow: String(follow), steps: String(steps) });
      if (vm !== undefined) query.set('vm', vm);
      if (after !== null) query.set('after', String(after));
      const response = await send('GET', `/v1/events?${query}`, undefined, signal);
      try {
        let type = '';
        for await (const line of createInterface({ input: response })) {
          if (line.startsWith('event: ')) type = line.slice(7);
          if (type === 'end') return;
          if (line.startsWith('data: ')) yield JSON.parse(line.slice(6)) as ApiEvent;
        }
      } finally {
        response.destroy(); // Else the open stream would keep the process alive.
      }
    },
  };
}

function textFile(path: string, option: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new SeamlessError('REQUEST_INVALID', `Expected a readable file at ${option} ${path}`, { cause });
  }
}

function notThere(where: string, cause: Error): SeamlessError {
  const how = where.startsWith('https:') ? '' : '; start it, or name its socket by --socket';
  return new SeamlessError(
    'PREREQUISITE_MISSING',
    `The orchestrator does not answer at ${where} (${cause.message})${how}`,
    { cause },
  );
}

function errorOf(text: string): SeamlessError {
  try {
    const { code, detail, details } = JSON.parse(text) as Problem;
    if (code in ERRORS) return new SeamlessError(code as ErrorCode, detail, { details });
  } catch {
    // Not a problem document: said below.
  }
  return new SeamlessError('INTERNAL', `Expected a problem document, got ${text.slice(0, 200)}`);
}

async function textOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}
