/** A service that takes webhooks: over TLS, with signers, a certificate and tokens that a test gives out. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SeamlessError } from '../../../../common/errors.ts';
import { silentLog } from '../../../../common/log.ts';
import type { TokenOwner } from '../../../../orchestrator/openstack/token-check.ts';
import { type WebhookDeps, webhookRoutes } from '../../../../orchestrator/webhooks/routes.ts';
import { parseSecret, sign } from '../../../../orchestrator/webhooks/signature.ts';
import { type Answer, byTls, type Served, serve } from '../api/served.ts';

export const SERVER = '4e7a1c52-98cf-4c6e-a8b3-7f0e2d5b9a11';
export const OTHER_SERVER = '9b0f4a6d-1111-4c6e-a8b3-7f0e2d5b9a22';
export const PROJECT = 'b5f2e1d0c9a84756b3a2f1e0d9c8b7a6';
export const SECRET = `whsec_${randomBytes(32).toString('base64')}`;

/** As aodh 20 sends it for an event alarm. */
export function alarm(current: string, server = SERVER): Record<string, unknown> {
  return {
    alarm_name: 'idle',
    alarm_id: '0a1b2c3d',
    severity: 'low',
    previous: 'insufficient data',
    current,
    reason: 'Event <id=1> hits the query <query=[]>.',
    reason_data: {
      type: 'event',
      event: {
        event_type: 'seamless.idle',
        generated: '2026-11-21T18:00:00',
        traits: [
          ['project_id', 1, PROJECT],
          ['instance_id', 1, server],
        ],
      },
    },
  };
}

/** Whom each token belongs to. */
export const OWNERS: Record<string, Partial<TokenOwner>> = {
  member: { projectId: PROJECT, roles: ['member'] },
  reader: { projectId: PROJECT, roles: ['reader'] },
  stranger: { projectId: 'another', roles: ['member', 'admin'] },
  unscoped: { projectId: null, roles: [] },
  'by-trust': { projectId: PROJECT, roles: ['member'], trusteeUserId: 'aodh' },
};

const cloud = {
  projectId: async () => PROJECT,
  tokens: {
    async ownerOf(token: string) {
      const owner = OWNERS[token];
      if (owner) return { userId: 'u', userName: 'u', trusteeUserId: null, expiresMs: Infinity, ...owner };
      throw new SeamlessError('UNAUTHENTICATED', 'Expected a token that Keystone knows');
    },
  },
} as unknown as NonNullable<WebhookDeps['cloud']>;

export function receiving(over: Partial<WebhookDeps> = {}): Promise<Served> {
  return serve({
    tls: true,
    plugins: [],
    vms: { vm1: { openstack: { serverId: SERVER } }, vm2: { openstack: { serverId: OTHER_SERVER } } },
    plugin: ({ folder, journal, vms }) => {
      const secretFile = join(folder, 'secret');
      writeFileSync(secretFile, SECRET, { mode: 0o600 });
      const config = {
        signers: [{ name: 'bridge', secretFile, vms: ['vm1'] }],
        certificates: [{ name: 'alarms', vms: ['vm1'] }],
      };
      return (app) => webhookRoutes(app, { vms, journal, log: silentLog, cloud, config, ...over });
    },
  });
}

export interface Post {
  body?: unknown;
  path?: string;
  headers?: Record<string, string>;
  certificate?: { cert: Buffer; key: Buffer };
}

export function post(
  served: Served,
  { body = alarm('alarm'), path = 'aodh?action=park', headers = {}, certificate }: Post,
): Promise<Answer> {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const all = {
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(text)),
    ...headers,
  };
  return byTls(served, 'POST', `/v1/webhooks/${path}`, all, text, certificate);
}

/** The headers of Standard Webhooks. */
export function signed(
  body: unknown,
  over: { id?: string; atMs?: number; secret?: string } = {},
): Record<string, string> {
  const { id = `msg_${randomBytes(8).toString('hex')}`, atMs = Date.now(), secret = SECRET } = over;
  const seconds = Math.floor(atMs / 1000);
  const signature = sign(
    parseSecret('test', secret),
    id,
    seconds,
    typeof body === 'string' ? body : JSON.stringify(body),
  );
  return { 'webhook-id': id, 'webhook-timestamp': String(seconds), 'webhook-signature': signature };
}
