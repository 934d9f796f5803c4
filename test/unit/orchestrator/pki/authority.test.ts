import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { certify, makeAuthority } from '../../../../orchestrator/pki/authority.ts';
import { temporaryFolder } from '../saga/suite.ts';

test('an authority certifies keys that it never sees, for a role, a name and an address', async () => {
  const folder = join(temporaryFolder(), 'pki');
  const authority = await makeAuthority(folder);
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const key = publicKey.export({ type: 'spki', format: 'pem' }) as string;
  const made = new X509Certificate(await certify(authority, key, 'sink-agent:sink1', ['10.78.0.2']));
  const ca = new X509Certificate(readFileSync(authority.ca));
  expect(made.verify(ca.publicKey)).toBe(true);
  expect(made.publicKey.equals(publicKey)).toBe(true);
  expect(made.subject).toBe('CN=sink-agent:sink1');
  expect(made.subjectAltName).toBe('DNS:sink1, IP Address:10.78.0.2');
  expect(made.ca).toBe(false);
  const own = new X509Certificate(readFileSync(authority.cert));
  expect(own.verify(ca.publicKey)).toBe(true);
  expect(own.subject).toBe('CN=orchestrator');
  for (const secret of [authority.caKey, authority.key]) expect(statSync(secret).mode & 0o777).toBe(0o600);
  await expect(makeAuthority(folder)).rejects.toThrow('they are not touched');
});
