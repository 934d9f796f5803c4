/** Nova servers for the tests: of the fake hypervisor, without a network. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Cloud } from './cloud.ts';
import { call, type Identity, type Keystone } from './identities.ts';

const ACTIVE_MS = 60_000;
let flavorId: string | null = null;

export async function makeServer(cloud: Cloud, keystone: Keystone, owner: Identity): Promise<string> {
  flavorId ??= await flavor(cloud, keystone);
  const token = await keystone.token(owner);
  const server = { name: 'vm1', imageRef: cloud.imageId, flavorRef: flavorId, networks: 'none' };
  const made = await call<{ server: { id: string } }>('POST', `${cloud.nova}/servers`, token, { server });
  const { id } = made.server;
  const { status, fault } = await settled(cloud, token, id);
  if (status === 'ACTIVE') return id;
  throw new Error(`Expected an ACTIVE server, got ${status}: ${fault?.message}`);
}

export async function serverStatus(cloud: Cloud, token: string, id: string): Promise<string> {
  return (await shown(cloud, token, id)).status;
}

/** As its owner does it, by hand. */
export async function act(cloud: Cloud, token: string, id: string, action: string): Promise<void> {
  await call('POST', `${cloud.nova}/servers/${id}/action`, token, { [action]: null });
}

export async function removeServer(cloud: Cloud, token: string, id: string): Promise<void> {
  await call('DELETE', `${cloud.nova}/servers/${id}`, token);
}

async function flavor(cloud: Cloud, keystone: Keystone): Promise<string> {
  const url = `${cloud.nova}/flavors`;
  const { flavors } = await call<{ flavors: { id: string; name: string }[] }>(
    'GET',
    url,
    keystone.adminToken,
  );
  const known = flavors.find(({ name }) => name === 'tiny');
  if (known) return known.id;
  const asked = { flavor: { name: 'tiny', vcpus: 1, ram: 64, disk: 1 } };
  return (await call<{ flavor: { id: string } }>('POST', url, keystone.adminToken, asked)).flavor.id;
}

interface Shown {
  status: string;
  fault?: { message: string };
}

async function shown(cloud: Cloud, token: string, id: string): Promise<Shown> {
  return (await call<{ server: Shown }>('GET', `${cloud.nova}/servers/${id}`, token)).server;
}

async function settled(cloud: Cloud, token: string, id: string): Promise<Shown> {
  const deadline = Date.now() + ACTIVE_MS;
  for (;;) {
    const server = await shown(cloud, token, id);
    if (server.status !== 'BUILD' || Date.now() > deadline) return server;
    await delay(200);
  }
}
