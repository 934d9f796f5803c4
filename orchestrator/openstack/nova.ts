/** Nova, as far as a VM is switched off and on: look at a server, and four actions. */
import { SeamlessError } from '../../common/errors.ts';
import type { KeystoneSession } from './keystone.ts';
import { statusOf } from './request.ts';

/** Of 2025: what this client was tried with. Older calls have been the same since 2.1. */
const MICROVERSION = 'compute 2.93';

export interface Server {
  id: string;
  /** ACTIVE, SUSPENDED, PAUSED, SHUTOFF, ERROR, … */
  status: string;
  /** What Nova is about to do with it; null when nothing. */
  task: string | null;
  projectId: string;
  /** Only admins are told. */
  host: string | null;
}

export type ServerAction = 'suspend' | 'resume' | 'pause' | 'unpause';

export interface Nova {
  /** Null when there is no such server in the project. */
  server(id: string, signal?: AbortSignal): Promise<Server | null>;
  /** Nova does it afterwards; gives the id of the request, which its notifications name. */
  act(id: string, action: ServerAction, signal?: AbortSignal): Promise<string>;
  /** What Nova notes of a request: the message of a failure, null when there is none. */
  failureOf(id: string, requestId: string): Promise<string | null>;
}

export function novaClient(session: KeystoneSession, computeUrl?: string): Nova {
  const headers = { 'openstack-api-version': MICROVERSION };
  const place = async (id: string, more = '') =>
    `${computeUrl?.replace(/\/$/, '') ?? (await session.endpoint('compute'))}/servers/${encodeURIComponent(id)}${more}`;
  return {
    async server(id, signal) {
      try {
        const { body } = await session.request({ method: 'GET', url: await place(id), headers, signal });
        return serverOf(body, id);
      } catch (error) {
        // Any other 404 says that the URL is wrong, not that the server is gone.
        if (statusOf(error) === 404 && (error as SeamlessError).details.fault === 'itemNotFound') return null;
        throw error;
      }
    },
    async act(id, action, signal) {
      const url = await place(id, '/action');
      const { requestId } = await session.request({
        method: 'POST',
        url,
        headers,
        body: { [action]: null },
        signal,
      });
      if (requestId) return requestId;
      throw new SeamlessError(
        'CLOUD_REFUSED',
        `Expected a request id of Nova for ${action} of ${id}, got none`,
      );
    },
    async failureOf(id, requestId) {
      const url = await place(id, `/os-instance-actions/${encodeURIComponent(requestId)}`);
      const { body } = await session.request({ method: 'GET', url, headers });
      const { message = null } =
        (body as { instanceAction?: { message?: string | null } } | null)?.instanceAction ?? {};
      return message;
    },
  };
}

function serverOf(body: unknown, id: string): Server {
  const server = (body as { server?: Record<string, unknown> } | null)?.server;
  if (typeof server?.status !== 'string') {
    throw new SeamlessError('CLOUD_REFUSED', `Expected server ${id} of Nova, got another reply`);
  }
  const text = (key: string) => (typeof server[key] === 'string' ? (server[key] as string) : null);
  return {
    id,
    status: server.status,
    task: text('OS-EXT-STS:task_state'),
    projectId: text('tenant_id') ?? '',
    host: text('OS-EXT-SRV-ATTR:host'),
  };
}
