/** Whose token is it: asked of a real Keystone, with every kind of token that a webhook may bring. */
import { describe, expect, test } from 'vitest';
import { KeystoneSession } from '../../orchestrator/openstack/keystone.ts';
import { tokenCheck } from '../../orchestrator/openstack/token-check.ts';
import type { Stage } from './stage.ts';

export function tokenTests(stage: () => Stage): void {
  describe('tokens', () => {
    test('a member’s token names its user, its project and its roles', async () => {
      const { keystone, tenant, tokens } = stage();
      const owner = await tokens.ownerOf(await keystone.token(tenant));
      expect(owner).toMatchObject({
        userId: tenant.userId,
        projectId: tenant.projectId,
        trusteeUserId: null,
      });
      expect(owner.roles).toContain('member');
    });

    test('so does the token of an application credential', async () => {
      const { keystone, tenant, tokens, credential } = stage();
      const owner = await tokens.ownerOf(await keystone.applicationToken(credential));
      expect(owner).toMatchObject({ userId: tenant.userId, projectId: tenant.projectId });
    });

    test('a token that was never given, or that was revoked, is refused', async () => {
      const { keystone, tenant, tokens } = stage();
      await expect(tokens.ownerOf('gAAAAABnever-given')).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
      const token = await keystone.token(tenant);
      await keystone.revoke(token);
      await expect(tokens.ownerOf(token)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    });

    test('a token with a line break in it reaches no Keystone', async () => {
      await expect(stage().tokens.ownerOf('a\r\nx-subject-token: b')).rejects.toMatchObject({
        code: 'UNAUTHENTICATED',
      });
    });

    test('a plain member may not check the tokens of others: the service identity needs a role, and is told which', async () => {
      const { keystone, session } = stage();
      const stranger = await keystone.user('stranger', ['member']);
      const asTenant = tokenCheck(session);
      await expect(asTenant.ownerOf(await keystone.token(stranger))).rejects.toMatchObject({
        code: 'CLOUD_REFUSED',
        message: expect.stringContaining('role `service`'),
      });
    });

    test('a session whose token was revoked gets another one by itself', async () => {
      const { keystone, session, nova, serverId } = stage();
      expect(await session.projectId()).not.toBeNull();
      const { headers } = await fetch(session.authUrl, { signal: AbortSignal.timeout(10_000) });
      expect(headers.get('content-type')).toContain('json');
      // What the session has is not shown, so that all tokens of its credential’s user are ended.
      await keystone.endTokensOf(stage().tenant);
      expect(await nova.server(serverId)).toMatchObject({ id: serverId });
    });

    test('a wrong secret is said as Keystone says it', async () => {
      const { cloud, credential } = stage();
      const wrong = new KeystoneSession({
        authUrl: cloud.keystone,
        credential: { id: credential.id, secret: 'wrong' },
      });
      await expect(wrong.projectId()).rejects.toMatchObject({
        code: 'CLOUD_REFUSED',
        details: { status: 401 },
      });
    });

    test('a Keystone that is not there is said to be unreachable', async () => {
      const nobody = new KeystoneSession({
        authUrl: 'http://127.0.0.1:65535/v3',
        credential: { id: 'x', secret: 'x' },
      });
      await expect(nobody.projectId()).rejects.toMatchObject({ code: 'CLOUD_UNREACHABLE' });
    });
  });
}
