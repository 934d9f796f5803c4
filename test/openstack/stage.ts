/** What all these tests stand on: the cloud, a tenant with a server, a service identity, and strangers. */

import { KeystoneSession } from '../../orchestrator/openstack/keystone.ts';
import { type Nova, novaClient } from '../../orchestrator/openstack/nova.ts';
import { type OwnRequests, ownRequests } from '../../orchestrator/openstack/own-requests.ts';
import { type TokenCheck, tokenCheck } from '../../orchestrator/openstack/token-check.ts';
import { type Journal, openJournal } from '../../orchestrator/saga/journal.ts';
import { type Cloud, startCloud } from './cloud.ts';
import { type Identity, Keystone } from './identities.ts';
import { keptCloud } from './keep.ts';
import { makeServer } from './servers.ts';

export interface Stage {
  cloud: Cloud;
  keystone: Keystone;
  /** A plain member, with an application credential as a tenant gives it to SEaMLESS. */
  tenant: Identity;
  credential: { id: string; secret: string };
  session: KeystoneSession;
  nova: Nova;
  tokens: TokenCheck;
  journal: Journal;
  requests: OwnRequests;
  serverId: string;
  close(): Promise<void>;
}

export async function openStage(): Promise<Stage> {
  const kept = process.env.SEAMLESS_TEST_CLOUD;
  const cloud = kept
    ? await keptCloud(kept)
    : await startCloud((line) => process.stderr.write(`cloud: ${line}\n`));
  try {
    const keystone = await Keystone.open(cloud.keystone);
    const tenant = await keystone.user('tenant', ['member']);
    const service = await keystone.user('seamless', ['service']);
    const sessionOf = async (identity: Identity) =>
      new KeystoneSession({
        authUrl: cloud.keystone,
        credential: await keystone.applicationCredential(identity),
      });
    const credential = await keystone.applicationCredential(tenant);
    const session = new KeystoneSession({ authUrl: cloud.keystone, credential });
    const journal = openJournal(':memory:');
    return {
      ...{ cloud, keystone, tenant, credential, session, journal },
      nova: novaClient(session),
      tokens: tokenCheck(await sessionOf(service)),
      requests: ownRequests(journal),
      serverId: await makeServer(cloud, keystone, tenant),
      async close() {
        journal.close();
        await cloud.close();
      },
    };
  } catch (error) {
    await cloud.close();
    throw error;
  }
}
