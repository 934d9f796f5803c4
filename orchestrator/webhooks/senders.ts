/**
 * Who sends a webhook, by one of: the Unix socket (its mode has decided), a signature, a Keystone token, a client certificate.
 * A signature that is there must be right, whatever else is there. Knowing who it is comes first, what it may do afterwards.
 */
import type { TLSSocket } from 'node:tls';
import type { FastifyRequest } from 'fastify';
import { SeamlessError } from '../../common/errors.ts';
import type { VmConfig } from '../config.ts';
import type { Cloud } from '../openstack/cloud.ts';
import { type Secret, verify } from './signature.ts';
import type { WebhooksConfig } from './webhook-config.ts';

export interface Sender {
  name: string;
  /** Of a signed webhook: not to be taken twice. */
  signedId: string | null;
  /** @throws SeamlessError FORBIDDEN */
  mayActOn(vm: VmConfig): Promise<void>;
}

export interface SendersOptions {
  config: WebhooksConfig;
  secrets: readonly Secret[];
  cloud: Pick<Cloud, 'tokens' | 'projectId'> | null;
  now?: () => number;
}

const ROLES = ['member', 'manager', 'admin'];

export function senders({ config, secrets, cloud, now = Date.now }: SendersOptions) {
  return async function senderOf(request: FastifyRequest, body: Buffer): Promise<Sender> {
    const header = (key: string) => {
      const value = request.headers[key];
      return Array.isArray(value) ? value.join(' ') : value;
    };
    const signature = header('webhook-signature');
    if (signature !== undefined) {
      const headers = { signature, id: header('webhook-id'), timestamp: header('webhook-timestamp') };
      const { id, name } = verify(secrets, headers, body, now());
      const signer = config.signers?.find((each) => each.name === name);
      return { name: `signer ${name}`, signedId: id, mayActOn: amongst(name, signer?.vms) };
    }
    const token = header('x-auth-token');
    if (token !== undefined) return byToken(token);
    const certified = certificateName(request);
    const certificate = config.certificates?.find(({ name }) => name === certified);
    if (certificate) {
      const { name, vms } = certificate;
      return { name: `certificate ${name}`, signedId: null, mayActOn: amongst(name, vms) };
    }
    if (isLocal(request)) return { name: 'socket', signedId: null, mayActOn: async () => {} };
    throw new SeamlessError(
      'UNAUTHENTICATED',
      `Expected a token of Keystone (trust+https), a client certificate or a signature, got ${certified === null ? 'none' : `the certificate of “${certified}”, which is not configured`}`,
    );
  };

  async function byToken(token: string): Promise<Sender> {
    if (!cloud?.tokens) {
      const reason =
        'Expected no token, because `openstack.serviceCredential` is not configured and none can be checked';
      throw new SeamlessError('UNAUTHENTICATED', reason);
    }
    const owner = await cloud.tokens.ownerOf(token);
    const allowed = config.roles ?? ROLES;
    return {
      name: `user ${owner.userId}${owner.trusteeUserId ? ` by trust of ${owner.trusteeUserId}` : ''}`,
      signedId: null,
      async mayActOn({ name, openstack }) {
        const project = openstack?.projectId ?? (await cloud.projectId());
        if (project === null || owner.projectId !== project) {
          throw forbidden(
            `Expected a token of the project of ${name}, got one of ${owner.projectId ?? 'no project'}`,
          );
        }
        if (!owner.roles.some((role) => allowed.includes(role))) {
          throw forbidden(
            `Expected one of the roles ${allowed.join(', ')}, got ${owner.roles.join(', ') || 'none'}`,
          );
        }
      },
    };
  }
}

function amongst(who: string, vms: readonly string[] | undefined): Sender['mayActOn'] {
  return async ({ name }) => {
    if (vms && !vms.includes(name))
      throw forbidden(`Expected a sender that may act on ${name}, got “${who}”, which may not`);
  };
}

function certificateName({ raw }: FastifyRequest): string | null {
  const socket = raw.socket as Partial<TLSSocket>;
  if (!socket.authorized) return null;
  const name = socket.getPeerCertificate?.().subject?.CN;
  return typeof name === 'string' ? name : null;
}

/** The listener’s address is a path. */
function isLocal({ server }: FastifyRequest): boolean {
  return typeof server.server.address() === 'string';
}

function forbidden(message: string): SeamlessError {
  return new SeamlessError('FORBIDDEN', message);
}
