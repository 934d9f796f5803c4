/** The cloud that a tenant's VMs are in, from the configuration: Nova with the tenant's credential, token checks with the service's own. */
import { readFileSync } from 'node:fs';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import type { Journal } from '../saga/journal.ts';
import { KeystoneSession } from './keystone.ts';
import { type Nova, novaClient } from './nova.ts';
import { type OpenStackConfig, readSecret } from './openstack-config.ts';
import { type OwnRequests, ownRequests } from './own-requests.ts';
import { type TokenCheck, tokenCheck } from './token-check.ts';

export interface Cloud {
  nova: Nova;
  requests: OwnRequests;
  /** Null without `serviceCredential`. */
  tokens: TokenCheck | null;
  /** Of the tenant’s credential. */
  projectId(): Promise<string | null>;
}

/** Reads the secrets, and asks nobody yet. */
export function openCloud(config: OpenStackConfig, journal: Journal): Cloud {
  const { authUrl, credential, serviceCredential, region, computeUrl, ca } = config;
  if (ca) setDefaultCACertificates([...getCACertificates('default'), readFileSync(ca, 'utf8')]);
  const sessionOf = ({ id, secretFile }: OpenStackConfig['credential']) =>
    new KeystoneSession({
      authUrl,
      region,
      interface: config.interface,
      credential: { id, secret: readSecret(secretFile) },
    });
  const tenant = sessionOf(credential);
  return {
    nova: novaClient(tenant, computeUrl),
    requests: ownRequests(journal),
    tokens: serviceCredential ? tokenCheck(sessionOf(serviceCredential)) : null,
    projectId: () => tenant.projectId(),
  };
}
