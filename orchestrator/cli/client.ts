/** The API's client: HTTP over the service's Unix socket, and its events. */
import { existsSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';
import { ERRORS, type ErrorCode, SeamlessError } from '../../common/errors.ts';
import type { ApiEvent } from '../api/events.ts';
import type { Problem } from '../api/problem.ts';

export interface ApiClient {
  readonly socket: string;
  get<T>(path: string): Promise<T>;
  post<T>(path: string, body?: object): Promise<T>;
  /** Events after `after` (from now on when null), until the stream ends or the caller stops. */
  events(query: EventQuery): AsyncGenerator<ApiEvent>;
}

export interface EventQuery {
  vm?: string | undefined;
  after: number | null;
  follow: boolean;
  /** Each step of each operation, unless told not to. */
  steps?: boolean;
}

const USUAL_SOCKETS = ['/run/seamless-lab/seamless.sock', '/run/seamless/seamless.sock'] as const;

/** The socket that was named, else the first usual one that is there. */
export function findSocket(named: string | undefined, env: NodeJS.ProcessEnv): string {
  const [usualLab, installed] = USUAL_SOCKETS;
  const lab = env.SEAMLESS_LAB ? `/run/seamless-lab-${env.SEAMLESS_LAB}/seamless.sock` : usualLab;
  return named ?? env.SEAMLESS_SOCKET ?? (existsSync(lab) ? lab : installed);
}

export function apiClient(socket: string): ApiClient {
  const json = async <T>(method: string, path: string, body?: object): Promise<T> => {
    const response = await send(socket, method, path, body);
    return JSON.parse(await textOf(response)) as T;
  };
  return {
    socket,
    get: (path) => json('GET', path),
    post: (path, body) => json('POST', path, body),
    async *events({ vm, after, follow, steps = true }) {
      const query = new URLSearchParams({ follow: String(follow), steps: String(steps) });
      if (vm !== undefined) query.set('vm', vm);
      if (after !== null) query.set('after', String(after));
      const response = await send(socket, 'GET', `/v1/events?${query}`);
      try {
        for await (const line of createInterface({ input: response })) {
          if (line.startsWith('data: ')) yield JSON.parse(line.slice(6)) as ApiEvent;
        }
      } finally {
        response.destroy(); // Else the open stream would keep the process alive.
      }
    },
  };
}

function send(socket: string, method: string, path: string, body?: object): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const headers = body ? { 'content-type': 'application/json' } : {};
    const request = httpRequest({ socketPath: socket, method, path, headers });
    request.once('error', (cause) => reject(notThere(socket, cause)));
    request.once('response', (response) => {
      if ((response.statusCode ?? 500) < 400) return resolve(response);
      textOf(response).then((text) => reject(errorOf(text)), reject);
    });
    request.end(body ? JSON.stringify(body) : undefined);
  });
}

function notThere(socket: string, cause: Error): SeamlessError {
  return new SeamlessError(
    'PREREQUISITE_MISSING',
    `The orchestrator does not answer at ${socket} (${cause.message}); start it, or name its socket by --socket`,
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
