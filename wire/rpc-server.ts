/**
 * The agents' server: typed calls, an event stream and image transfer over one HTTPS port with mutual TLS.
 *
 *   POST /rpc/METHOD   JSON in, JSON out; a failure is `{"error": {code, message, details}}`
 *   GET  /events       one JSON object a line, for as long as the caller listens
 *   GET|PUT /image/ID  an image stream (see image-stream.ts)
 *
 * It listens on the management address alone and answers only peers that `allow` knows by the name in their certificate.
 * Connections are kept open without limit, so that the wake path pays no handshake.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { asSeamlessError, ERRORS, type ErrorBody, SeamlessError } from '../common/errors.ts';
import type { Log } from '../common/log.ts';
import { peerName, type TlsMaterial } from './tls.ts';

/** The shape of an agent's interface: method → what it takes and gives. */
export type RpcApi<Api> = { [M in keyof Api]: { params: object; result: unknown } };

export type RpcHandlers<Api extends RpcApi<Api>> = {
  [M in keyof Api]: (params: Api[M]['params'], call: { signal: AbortSignal }) => Promise<Api[M]['result']>;
};

export interface ImageHandlers {
  send(imageId: string, out: ServerResponse): Promise<void>;
  receive(imageId: string, body: IncomingMessage): Promise<unknown>;
}

/** Lets a handler say something to every listener of `/events`; `onListener` runs for each new one. */
export interface EventSource<Event> {
  subscribe(listener: (event: Event) => void): () => void;
}

export interface RpcServerOptions<Api extends RpcApi<Api>, Event> {
  listen: { address: string; port: number };
  tls: TlsMaterial;
  allow: (peer: string) => boolean;
  handlers: RpcHandlers<Api>;
  images: ImageHandlers;
  events?: EventSource<Event>;
  log: Log;
}

const BODY_LIMIT_BYTES = 1024 * 1024;

/** Starts the server; resolves when it listens. */
export async function startRpcServer<Api extends RpcApi<Api>, Event = never>(
  options: RpcServerOptions<Api, Event>,
): Promise<{ server: Server; port: number; close(): Promise<void> }> {
  const { tls, listen, log } = options;
  const server = createServer({ ...tls, requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.3' });
  server.keepAliveTimeout = 0;
  server.requestTimeout = 0;
  server.headersTimeout = 60_000;
  server.on('request', (request, response) => {
    answer(options, request, response).catch((thrown) => fail(response, thrown, log));
  });
  server.on('tlsClientError', (error, socket) => {
    log.warn('tls.refused', { remote: socket.remoteAddress, reason: error.message });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(listen.port, listen.address, resolve);
  });
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : listen.port;
  return {
    server,
    port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer<Api extends RpcApi<Api>, Event>(
  options: RpcServerOptions<Api, Event>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const peer = peerName(request.socket as Parameters<typeof peerName>[0]);
  if (peer === null || !options.allow(peer)) {
    request.resume();
    response.writeHead(403).end();
    options.log.warn('peer.refused', { peer });
    return;
  }
  const [, area = '', name = ''] = (request.url ?? '').split('/').map(decodeURIComponent);
  if (request.method === 'POST' && area === 'rpc') return call(options, name, request, response);
  if (request.method === 'GET' && area === 'events' && options.events)
    return stream(options.events, response);
  if (request.method === 'GET' && area === 'image') return options.images.send(name, response);
  if (request.method === 'PUT' && area === 'image')
    return reply(response, await options.images.receive(name, request));
  request.resume();
  throw new SeamlessError('REQUEST_INVALID', `Expected a known path, got ${request.method} ${request.url}`);
}

async function call<Api extends RpcApi<Api>, Event>(
  options: RpcServerOptions<Api, Event>,
  method: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const params = await readJson(request);
  const handlers = options.handlers as Record<string, RpcHandlers<Api>[keyof Api]>;
  const handler = Object.hasOwn(handlers, method) ? handlers[method] : undefined;
  if (!handler) throw new SeamlessError('REQUEST_INVALID', `Expected a known method, got ${method}`);
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  const started = performance.now();
  const result = await handler(params as never, { signal: gone.signal });
  options.log.debug('rpc', { method, ms: performance.now() - started });
  reply(response, result);
}

function stream<Event>(events: EventSource<Event>, response: ServerResponse): Promise<void> {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  response.flushHeaders();
  response.socket?.setNoDelay(true);
  const unsubscribe = events.subscribe((event) => response.write(`${JSON.stringify(event)}\n`));
  return new Promise((resolve) => {
    response.once('close', () => {
      unsubscribe();
      resolve();
    });
  });
}

async function readJson(request: IncomingMessage): Promise<object> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > BODY_LIMIT_BYTES) {
      throw new SeamlessError(
        'REQUEST_INVALID',
        `Expected a body of at most ${BODY_LIMIT_BYTES} bytes, got more`,
      );
    }
    chunks.push(chunk);
  }
  try {
    const value: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8') || '{}');
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  } catch (cause) {
    throw new SeamlessError('REQUEST_INVALID', 'Expected a JSON object as the body, got something else', {
      cause,
    });
  }
  throw new SeamlessError('REQUEST_INVALID', 'Expected a JSON object as the body, got another JSON value');
}

function reply(response: ServerResponse, result: unknown): void {
  const body = JSON.stringify(result ?? null);
  response
    .writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) })
    .end(body);
}

function fail(response: ServerResponse, thrown: unknown, log: Log): void {
  const error = asSeamlessError(thrown);
  log.warn('rpc.failed', {
    code: error.code,
    message: error.message,
    ...(error.code === 'INTERNAL' ? { error } : {}),
  });
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const body: { error: ErrorBody } = { error: error.toBody() };
  response
    .writeHead(ERRORS[error.code].status, { 'content-type': 'application/json' })
    .end(JSON.stringify(body));
}
