/**
 * The client of an agent: typed calls over kept connections with mutual TLS, its events, and its images.
 * An agent that cannot be reached is `AGENT_UNREACHABLE`; what it answers as an error is thrown as that error.
 */
import type { ClientRequest, IncomingMessage } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { type ErrorBody, SeamlessError } from '../common/errors.ts';
import type { RpcApi } from './rpc-server.ts';
import { clientContext, type TlsMaterial } from './tls.ts';

export interface RpcClientOptions {
  address: string;
  port: number;
  tls: TlsMaterial;
  /** The common name that the agent must prove: `vm-agent:vm1`. */
  peer: string;
}

export interface CallOptions {
  signal?: AbortSignal;
  /** Milliseconds for the whole call; 30 s unless told. */
  timeoutMs?: number;
}

export interface RpcClient<Api extends RpcApi<Api>, Event = never> {
  readonly peer: string;
  /** When the certificate ends by which the agent proved itself last; null before the first connection. */
  readonly certificateEnds: Date | null;
  call<M extends keyof Api & string>(
    method: M,
    params: Api[M]['params'],
    options?: CallOptions,
  ): Promise<Api[M]['result']>;
  /** Follows `/events` until `signal` aborts or the connection ends; then resolves. */
  events(onEvent: (event: Event) => void, signal: AbortSignal): Promise<void>;
  getImage(imageId: string, options?: CallOptions): Promise<IncomingMessage>;
  /** Sends an image: `write` gets the request to write into, and must end it. */
  putImage(
    imageId: string,
    write: (out: ClientRequest) => Promise<void>,
    options?: CallOptions,
  ): Promise<unknown>;
  close(): void;
}

export function createRpcClient<Api extends RpcApi<Api>, Event = never>(
  options: RpcClientOptions,
): RpcClient<Api, Event> {
  let certificateEnds: Date | null = null;
  const agent = new PatientAgent({
    keepAlive: true,
    maxSockets: 8,
    scheduling: 'lifo',
    secureContext: clientContext(options.tls),
    checkServerIdentity: (_host, certificate) => {
      const of = certificate.subject?.CN;
      if (of !== options.peer)
        return new Error(`Expected a certificate of ${options.peer}, got one of ${of}`);
      certificateEnds = new Date(certificate.valid_to);
      return undefined;
    },
  });
  const where = `${options.peer} at ${options.address}:${options.port}`;

  const open = (method: string, path: string, call: CallOptions, body?: string) => {
    const timeout = call.timeoutMs === Infinity ? [] : [AbortSignal.timeout(call.timeoutMs ?? 30_000)];
    const signal = AbortSignal.any([...(call.signal ? [call.signal] : []), ...timeout]);
    const request = httpsRequest({
      agent,
      host: options.address,
      port: options.port,
      method,
      path,
      signal,
    });
    request.setNoDelay(true);
    const response = new Promise<IncomingMessage>((ok, fail) => {
      request.once('response', ok);
      request.once('error', (cause) => fail(failure(where, `${method} ${path}`, call, cause)));
    });
    response.catch(() => {}); // reported to whoever awaits it; a request may fail before anybody does
    if (body !== undefined) {
      request.setHeader('content-type', 'application/json');
      request.setHeader('content-length', Buffer.byteLength(body));
      request.end(body);
    }
    return { request, response };
  };

  return {
    peer: options.peer,
    get certificateEnds() {
      return certificateEnds;
    },
    async call(method, params, call = {}) {
      const { response } = open('POST', `/rpc/${method}`, call, JSON.stringify(params));
      try {
        return (await readReply(await response, where)) as never;
      } catch (thrown) {
        throw thrown instanceof SeamlessError ? thrown : failure(where, method, call, thrown);
      }
    },
    async events(onEvent, signal) {
      const { request, response } = open('GET', '/events', { signal, timeoutMs: Infinity });
      request.end();
      const lines = createInterface({ input: await expectOk(await response, where) });
      try {
        for await (const line of lines) onEvent(JSON.parse(line) as Event);
      } catch (thrown) {
        if (!signal.aborted) throw failure(where, 'GET /events', {}, thrown);
      }
    },
    async getImage(imageId, call = {}) {
      const { request, response } = open('GET', `/image/${encodeURIComponent(imageId)}`, call);
      request.end();
      return expectOk(await response, where);
    },
    async putImage(imageId, write, call = {}) {
      const { request, response } = open('PUT', `/image/${encodeURIComponent(imageId)}`, call);
      // An early refusal answers before all is written: whichever comes first decides.
      await Promise.race([write(request), response]);
      return readReply(await response, where);
    },
    close: () => agent.destroy(),
  };
}

/**
 * Keeps connections, but sends no TCP keep-alives over them: Node's would give up on a paused VM after ten seconds, and
 * the wake would pay for a handshake.
 */
class PatientAgent extends Agent {
  override keepSocketAlive(socket: Socket): boolean {
    socket.setKeepAlive(false);
    socket.unref();
    return true;
  }
}

function failure(where: string, what: string, call: CallOptions, cause: unknown): SeamlessError {
  if (call.signal?.aborted) return new SeamlessError('ABORTED', `${what} to ${where} was aborted`, { cause });
  if (
    (cause as Error)?.name === 'TimeoutError' ||
    (cause as { cause?: Error })?.cause?.name === 'TimeoutError'
  ) {
    return new SeamlessError('TIMEOUT', `${where} did not answer ${what} in ${call.timeoutMs ?? 30_000} ms`, {
      cause,
    });
  }
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new SeamlessError('AGENT_UNREACHABLE', `${where} can’t be reached: ${reason}`, { cause });
}

/** Far more than any agent has to say. One that goes mad must not take the memory of whoever asked. */
const MOST_REPLY_BYTES = 16 * 1024 * 1024;

async function expectOk(response: IncomingMessage, where: string): Promise<IncomingMessage> {
  if (response.statusCode === 200) return response;
  await readReply(response, where);
  return response;
}

async function readReply(response: IncomingMessage, where: string): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MOST_REPLY_BYTES)
      throw new SeamlessError('AGENT_REFUSED', `${where} answered more than ${MOST_REPLY_BYTES} bytes`);
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString('utf8');
  if (response.statusCode === 200) return JSON.parse(text) as unknown;
  if (response.statusCode === 403) {
    throw new SeamlessError('AGENT_REFUSED', `${where} does not accept our certificate’s name`);
  }
  let body: { error?: ErrorBody } = {};
  try {
    body = JSON.parse(text) as { error?: ErrorBody };
  } catch {
    // Not one of ours; the status says it all.
  }
  throw body.error
    ? SeamlessError.fromBody(body.error)
    : new SeamlessError('AGENT_REFUSED', `${where} answered ${response.statusCode}: ${text.slice(0, 200)}`);
}
