/** One HTTP request to an OpenStack service: with a deadline, JSON both ways, and errors that say what the service said. */
import { SeamlessError } from '../../common/errors.ts';

export interface CloudRequest {
  method: 'GET' | 'POST';
  url: string;
  headers?: Record<string, string>;
  body?: object;
  signal?: AbortSignal | undefined;
  timeoutMs?: number;
}

export interface CloudReply {
  status: number;
  headers: Headers;
  /** Null when there is none. */
  body: unknown;
  /** By which the service's own logs, and Nova's notifications, name this request. */
  requestId: string | null;
}

const TIMEOUT_MS = 15_000;
const SAID_CHARS = 300;

/** Gives any reply below 300; the rest throws `CLOUD_REFUSED` with the status in its details, no reply `CLOUD_UNREACHABLE`. */
export async function cloudRequest(request: CloudRequest): Promise<CloudReply> {
  const { method, url, headers = {}, body, timeoutMs = TIMEOUT_MS } = request;
  const deadline = AbortSignal.timeout(timeoutMs);
  const signal = request.signal ? AbortSignal.any([deadline, request.signal]) : deadline;
  let reply: Response;
  let text: string;
  try {
    reply = await fetch(url, {
      method,
      signal,
      redirect: 'error', // A token goes to the service that it was meant for, and nowhere else.
      headers: {
        accept: 'application/json',
        ...(body ? { 'content-type': 'application/json' } : {}),
        ...headers,
      },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    text = await reply.text();
  } catch (cause) {
    throw unanswered(method, url, timeoutMs, deadline, request.signal, cause);
  }
  const requestId = reply.headers.get('x-openstack-request-id') ?? reply.headers.get('x-compute-request-id');
  const parsed = parse(text);
  if (reply.ok) return { status: reply.status, headers: reply.headers, body: parsed, requestId };
  const { status } = reply;
  const [fault, reason] = faultIn(parsed) ?? [null, text.slice(0, SAID_CHARS)];
  throw new SeamlessError('CLOUD_REFUSED', `${method} ${url}: ${status} ${reason}`, {
    details: { status, fault, requestId },
  });
}

/** The HTTP status of a `CLOUD_REFUSED`. */
export function statusOf(error: unknown): number | null {
  return error instanceof SeamlessError && typeof error.details.status === 'number'
    ? error.details.status
    : null;
}

function unanswered(
  method: string,
  url: string,
  timeoutMs: number,
  deadline: AbortSignal,
  signal: AbortSignal | undefined,
  cause: unknown,
): SeamlessError {
  if (signal?.aborted)
    return new SeamlessError('ABORTED', `${method} ${url}: nobody waits for it any more`, { cause });
  if (deadline.aborted) {
    return new SeamlessError('CLOUD_UNREACHABLE', `${method} ${url}: no answer within ${timeoutMs} ms`, {
      cause,
    });
  }
  const reason = (cause as { cause?: Error }).cause?.message || (cause as Error).message;
  return new SeamlessError('CLOUD_UNREACHABLE', `${method} ${url}: ${reason}`, { cause });
}

/** Keystone says `{error: {message}}`, Nova `{conflictingRequest: {message}}`. */
function faultIn(body: unknown): [fault: string, message: string] | null {
  if (typeof body !== 'object' || body === null) return null;
  const [fault, inner] = Object.entries(body).find(([, value]) => typeof value?.message === 'string') ?? [];
  return fault === undefined ? null : [fault, (inner as { message: string }).message];
}

function parse(text: string): unknown {
  if (text === '') return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
